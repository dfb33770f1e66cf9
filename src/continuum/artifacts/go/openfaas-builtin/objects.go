package main

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/openfaas/faas-provider/types"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Names that OpenFaaS gives.
const (
	functionLabel  = "faas_function"
	leastLabel     = "com.openfaas.scale.min"
	mostLabel      = "com.openfaas.scale.max"
	healthPath     = "com.openfaas.health.http.path"
	processKey     = "fprocess"
	secretsFolder  = "/var/openfaas/secrets"
	functionPort   = 8080
	functionSecret = "openfaas-secrets"
)

var validName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// deploymentOf is the function as the cluster runs it; an error tells what is wrong with the request.
func deploymentOf(asked types.FunctionDeployment, namespace string) (*appsv1.Deployment, error) {
	if !validName.MatchString(asked.Service) {
		return nil, fmt.Errorf("service: %q is no name: small letters, digits and hyphens", asked.Service)
	}
	if asked.Image == "" {
		return nil, fmt.Errorf("image: it is not named")
	}
	resources, err := resourcesOf(asked)
	if err != nil {
		return nil, err
	}
	affinity, err := affinityOf(asked.Constraints)
	if err != nil {
		return nil, err
	}
	labels := map[string]string{}
	if asked.Labels != nil {
		maps.Copy(labels, *asked.Labels)
	}
	labels[functionLabel] = asked.Service
	annotations := map[string]string{}
	if asked.Annotations != nil {
		maps.Copy(annotations, *asked.Annotations)
	}
	for _, label := range []string{leastLabel, mostLabel} {
		if _, err := replicasIn(labels, label, 0); err != nil {
			return nil, err
		}
	}
	no := false
	metadata := metav1.ObjectMeta{
		Name: asked.Service, Namespace: namespace, Labels: labels, Annotations: annotations,
	}
	function := &appsv1.Deployment{
		ObjectMeta: metadata,
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{functionLabel: asked.Service}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: annotations},
				Spec: corev1.PodSpec{
					Containers:                   []corev1.Container{containerOf(asked, resources, annotations)},
					Affinity:                     affinity,
					Volumes:                      volumesOf(asked.Secrets),
					EnableServiceLinks:           &no,
					AutomountServiceAccountToken: &no,
				},
			},
		},
	}
	replicas := leastReplicas(function)
	function.Spec.Replicas = &replicas
	return function, nil
}

func containerOf(
	asked types.FunctionDeployment,
	resources corev1.ResourceRequirements,
	annotations map[string]string,
) corev1.Container {
	path := annotations[healthPath]
	if path == "" {
		path = "/_/health"
	}
	container := corev1.Container{
		Name:            asked.Service,
		Image:           asked.Image,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Env:             environmentOf(asked),
		Resources:       resources,
		Ports:           []corev1.ContainerPort{{ContainerPort: functionPort, Name: "http"}},
		SecurityContext: &corev1.SecurityContext{ReadOnlyRootFilesystem: &asked.ReadOnlyRootFilesystem},
		// A function with more to do than it can is slow to answer this, too, and still of use.
		ReadinessProbe: &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
				Path: path, Port: intstr.FromInt32(functionPort),
			}},
			PeriodSeconds: 1, TimeoutSeconds: 5, FailureThreshold: 6,
		},
	}
	if len(asked.Secrets) > 0 {
		container.VolumeMounts = []corev1.VolumeMount{
			{Name: functionSecret, MountPath: secretsFolder, ReadOnly: true},
		}
	}
	return container
}

func environmentOf(asked types.FunctionDeployment) []corev1.EnvVar {
	var found []corev1.EnvVar
	if asked.EnvProcess != "" {
		found = append(found, corev1.EnvVar{Name: processKey, Value: asked.EnvProcess})
	}
	for _, name := range slices.Sorted(maps.Keys(asked.EnvVars)) {
		found = append(found, corev1.EnvVar{Name: name, Value: asked.EnvVars[name]})
	}
	return found
}

func volumesOf(secrets []string) []corev1.Volume {
	if len(secrets) == 0 {
		return nil
	}
	var sources []corev1.VolumeProjection
	for _, name := range secrets {
		sources = append(sources, corev1.VolumeProjection{Secret: &corev1.SecretProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: name},
		}})
	}
	projected := corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources}}
	return []corev1.Volume{{Name: functionSecret, VolumeSource: projected}}
}

func resourcesOf(asked types.FunctionDeployment) (corev1.ResourceRequirements, error) {
	limits, err := amounts("limits", asked.Limits)
	if err != nil {
		return corev1.ResourceRequirements{}, err
	}
	requests, err := amounts("requests", asked.Requests)
	return corev1.ResourceRequirements{Limits: limits, Requests: requests}, err
}

func amounts(what string, asked *types.FunctionResources) (corev1.ResourceList, error) {
	if asked == nil {
		return nil, nil
	}
	found := corev1.ResourceList{}
	for name, text := range map[corev1.ResourceName]string{
		corev1.ResourceCPU: asked.CPU, corev1.ResourceMemory: asked.Memory,
	} {
		if text == "" {
			continue
		}
		amount, err := resource.ParseQuantity(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %q is no amount", what, name, text)
		}
		found[name] = amount
	}
	return found, nil
}

// affinityOf reads constraints as `kubernetes.io/hostname=edge-1`: a node has each label, with one of
// the values that are given for it.
func affinityOf(constraints []string) (*corev1.Affinity, error) {
	values := map[string][]string{}
	for _, constraint := range constraints {
		key, value, found := strings.Cut(strings.Replace(constraint, "==", "=", 1), "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !found || key == "" {
			return nil, fmt.Errorf("constraints: %q is not of the form LABEL=VALUE", constraint)
		}
		values[key] = append(values[key], value)
	}
	if len(values) == 0 {
		return nil, nil
	}
	var term corev1.NodeSelectorTerm
	for _, key := range slices.Sorted(maps.Keys(values)) {
		term.MatchExpressions = append(term.MatchExpressions, corev1.NodeSelectorRequirement{
			Key: key, Operator: corev1.NodeSelectorOpIn, Values: values[key],
		})
	}
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{term},
		},
	}}, nil
}

func serviceOf(function *appsv1.Deployment) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Name:      function.Name,
			Namespace: function.Namespace,
			Labels:    map[string]string{functionLabel: function.Name},
		},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{functionLabel: function.Name},
			Ports: []corev1.ServicePort{{
				Name: "http", Port: functionPort, TargetPort: intstr.FromInt32(functionPort),
			}},
		},
	}
}

// leastReplicas is what a function starts with, and rises to from none.
func leastReplicas(function *appsv1.Deployment) int32 {
	least, err := replicasIn(function.Labels, leastLabel, 1)
	if err != nil || least < 1 {
		return 1
	}
	return least
}

func replicasIn(labels map[string]string, label string, otherwise int32) (int32, error) {
	text, found := labels[label]
	if !found {
		return otherwise, nil
	}
	number, err := strconv.ParseInt(text, 10, 32)
	if err != nil || number < 0 {
		return otherwise, fmt.Errorf("labels: %s: %q is no number of replicas", label, text)
	}
	return int32(number), nil
}

// statusOf is what the API tells of a function.
func statusOf(function *appsv1.Deployment, invocations float64) types.FunctionStatus {
	container := function.Spec.Template.Spec.Containers[0]
	status := types.FunctionStatus{
		Name:              function.Name,
		Namespace:         function.Namespace,
		Image:             container.Image,
		Labels:            &function.Spec.Template.Labels,
		Annotations:       &function.Spec.Template.Annotations,
		Limits:            told(container.Resources.Limits),
		Requests:          told(container.Resources.Requests),
		Constraints:       constraintsOf(function.Spec.Template.Spec.Affinity),
		InvocationCount:   invocations,
		AvailableReplicas: uint64(function.Status.AvailableReplicas),
		CreatedAt:         function.CreationTimestamp.Time,
	}
	if function.Spec.Replicas != nil {
		status.Replicas = uint64(*function.Spec.Replicas)
	}
	if context := container.SecurityContext; context != nil && context.ReadOnlyRootFilesystem != nil {
		status.ReadOnlyRootFilesystem = *context.ReadOnlyRootFilesystem
	}
	for _, variable := range container.Env {
		if variable.Name == processKey {
			status.EnvProcess = variable.Value
			continue
		}
		if status.EnvVars == nil {
			status.EnvVars = map[string]string{}
		}
		status.EnvVars[variable.Name] = variable.Value
	}
	for _, volume := range function.Spec.Template.Spec.Volumes {
		if volume.Projected == nil {
			continue
		}
		for _, source := range volume.Projected.Sources {
			status.Secrets = append(status.Secrets, source.Secret.Name)
		}
	}
	return status
}

func told(amounts corev1.ResourceList) *types.FunctionResources {
	if len(amounts) == 0 {
		return nil
	}
	found := &types.FunctionResources{}
	if cpu, given := amounts[corev1.ResourceCPU]; given {
		found.CPU = cpu.String()
	}
	if memory, given := amounts[corev1.ResourceMemory]; given {
		found.Memory = memory.String()
	}
	return found
}

func constraintsOf(affinity *corev1.Affinity) []string {
	if affinity == nil {
		return nil
	}
	var found []string
	selector := affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	for _, each := range selector.NodeSelectorTerms[0].MatchExpressions {
		for _, value := range each.Values {
			found = append(found, each.Key+"="+value)
		}
	}
	return found
}
