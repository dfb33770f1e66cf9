package main

import (
	"context"
	"fmt"
	"net/http"
	"sort"

	"github.com/gorilla/mux"
	"github.com/openfaas/faas-provider/types"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/util/retry"
)

// functionAPI is what the API does with functions, beside calling them.
type functionAPI struct {
	cluster *cluster
	metrics *metrics
}

func (f functionAPI) list(w http.ResponseWriter, r *http.Request) {
	if !ours(w, r.URL.Query().Get("namespace"), f.cluster.namespace) {
		return
	}
	functions, err := f.cluster.deployments.Deployments(f.cluster.namespace).List(labels.Everything())
	if err != nil {
		refuse(w, err)
		return
	}
	found := make([]types.FunctionStatus, 0, len(functions))
	for _, function := range functions {
		found = append(found, statusOf(function, f.metrics.invocations(function.Name)))
	}
	sort.Slice(found, func(i, j int) bool { return found[i].Name < found[j].Name })
	answer(w, http.StatusOK, found)
}

func (f functionAPI) status(w http.ResponseWriter, r *http.Request) {
	if !ours(w, r.URL.Query().Get("namespace"), f.cluster.namespace) {
		return
	}
	function, err := f.cluster.function(mux.Vars(r)["name"])
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, http.StatusOK, statusOf(function, f.metrics.invocations(function.Name)))
}

func (f functionAPI) deploy(w http.ResponseWriter, r *http.Request) {
	function, ok := f.asked(w, r)
	if !ok {
		return
	}
	deployments := f.cluster.client.AppsV1().Deployments(f.cluster.namespace)
	if _, err := deployments.Create(r.Context(), function, metav1.CreateOptions{}); err != nil {
		refuse(w, err)
		return
	}
	services := f.cluster.client.CoreV1().Services(f.cluster.namespace)
	_, err := services.Create(r.Context(), serviceOf(function), metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		// Half a function would be in the way of the next attempt.
		err = fmt.Errorf("its service: %w", err)
		refuse(w, err)
		_ = f.delete(context.WithoutCancel(r.Context()), function.Name)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// asked reads a function that is to be; false: it has been refused.
func (f functionAPI) asked(w http.ResponseWriter, r *http.Request) (*appsv1.Deployment, bool) {
	var asked types.FunctionDeployment
	if !read(w, r, &asked) || !ours(w, asked.Namespace, f.cluster.namespace) {
		return nil, false
	}
	function, err := deploymentOf(asked, f.cluster.namespace)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return nil, false
	}
	return function, true
}

func (f functionAPI) update(w http.ResponseWriter, r *http.Request) {
	function, ok := f.asked(w, r)
	if !ok {
		return
	}
	deployments := f.cluster.client.AppsV1().Deployments(f.cluster.namespace)
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		found, err := deployments.Get(r.Context(), function.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		replicas := found.Spec.Replicas
		found.Labels, found.Annotations = function.Labels, function.Annotations
		found.Spec.Template = function.Spec.Template
		found.Spec.Replicas = replicas
		_, err = deployments.Update(r.Context(), found, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusOK)
}

func (f functionAPI) remove(w http.ResponseWriter, r *http.Request) {
	var asked types.DeleteFunctionRequest
	if !read(w, r, &asked) || !ours(w, asked.Namespace, f.cluster.namespace) {
		return
	}
	if asked.FunctionName == "" {
		http.Error(w, "functionName: it is not named", http.StatusBadRequest)
		return
	}
	if err := f.delete(r.Context(), f.cluster.short(asked.FunctionName)); err != nil {
		refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusOK)
}

func (f functionAPI) delete(ctx context.Context, name string) error {
	behind := metav1.DeletePropagationBackground
	options := metav1.DeleteOptions{PropagationPolicy: &behind}
	deployments := f.cluster.client.AppsV1().Deployments(f.cluster.namespace)
	if err := deployments.Delete(ctx, name, options); err != nil {
		return err
	}
	err := f.cluster.client.CoreV1().Services(f.cluster.namespace).Delete(ctx, name, options)
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (f functionAPI) scale(w http.ResponseWriter, r *http.Request) {
	var asked types.ScaleServiceRequest
	if !read(w, r, &asked) || !ours(w, asked.Namespace, f.cluster.namespace) {
		return
	}
	function, err := f.cluster.function(mux.Vars(r)["name"])
	if err != nil {
		refuse(w, err)
		return
	}
	most, err := replicasIn(function.Labels, mostLabel, 0)
	if err == nil && most > 0 && asked.Replicas > uint64(most) {
		http.Error(w, fmt.Sprintf("replicas: at most %d by its label %s", most, mostLabel),
			http.StatusBadRequest)
		return
	}
	if asked.Replicas > 1<<15 {
		http.Error(w, "replicas: more than any cluster carries", http.StatusBadRequest)
		return
	}
	if err := f.cluster.setReplicas(r.Context(), function.Name, int32(asked.Replicas)); err != nil {
		refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

func (f functionAPI) namespaces(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, []string{f.cluster.namespace})
}
