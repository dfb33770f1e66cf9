// What KubeEdge v1.20.0 uses of its module beehive that the last published version of that module
// lacks.

package model

// Kinds of resources in messages between cloud and edge.
const (
	ResourceTypeEvent    = "event"
	ResourceTypeSaAccess = "serviceaccountaccess"
	ResourceTypeCSR      = "certificatesigningrequest"
	ResourceTypeK8sCA    = "k8s/ca.crt"
)
