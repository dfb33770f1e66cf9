// What KubeEdge v1.20.0 uses of its module beehive that the last published version of that module
// lacks.

package core

import "k8s.io/klog/v2"

// EnableModuleRestart belongs to the alpha feature moduleRestart, which is off unless a
// configuration asks for it; this build does not have it.
func EnableModuleRestart() {
	klog.Exit("the feature moduleRestart is not in this build of KubeEdge")
}

// IsModuleRestartEnabled tells whether modules that end are started again.
func IsModuleRestartEnabled() bool {
	return false
}
