package main

import (
	"context"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/types"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

const namespace = "openfaas-fn"

// running is a cluster with these objects, watched.
func running(t *testing.T, objects ...runtime.Object) *cluster {
	t.Helper()
	client := fake.NewClientset(objects...)
	withScales(client)
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	watched := newCluster(client, namespace)
	if err := watched.start(ctx); err != nil {
		t.Fatal(err)
	}
	return watched
}

// withScales answers for the part of a deployment that the package for tests leaves out.
func withScales(client *fake.Clientset) {
	resource := appsv1.SchemeGroupVersion.WithResource("deployments")
	find := func(name string) (*appsv1.Deployment, error) {
		found, err := client.Tracker().Get(resource, namespace, name)
		if err != nil {
			return nil, err
		}
		return found.(*appsv1.Deployment).DeepCopy(), nil
	}
	client.PrependReactor("get", "deployments", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if a.GetSubresource() != "scale" {
			return false, nil, nil
		}
		found, err := find(a.(clienttesting.GetAction).GetName())
		if err != nil {
			return true, nil, err
		}
		return true, &autoscalingv1.Scale{
			ObjectMeta: metav1.ObjectMeta{Name: found.Name, Namespace: namespace},
			Spec:       autoscalingv1.ScaleSpec{Replicas: *found.Spec.Replicas},
		}, nil
	})
	client.PrependReactor("update", "deployments", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if a.GetSubresource() != "scale" {
			return false, nil, nil
		}
		scale := a.(clienttesting.UpdateAction).GetObject().(*autoscalingv1.Scale)
		found, err := find(scale.Name)
		if err != nil {
			return true, nil, err
		}
		found.Spec.Replicas = &scale.Spec.Replicas
		return true, scale, client.Tracker().Update(resource, found, namespace)
	})
}

func deployed(name string, replicas int32) *appsv1.Deployment {
	function, err := deploymentOf(types.FunctionDeployment{Service: name, Image: "one:1"}, namespace)
	if err != nil {
		panic(err)
	}
	function.Spec.Replicas = &replicas
	return function
}

func pod(name, address string, ready bool) *corev1.Pod {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name + "-1", Namespace: namespace, Labels: map[string]string{functionLabel: name},
		},
		Status: corev1.PodStatus{
			PodIP:      address,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status}},
		},
	}
}

func replicas(t *testing.T, watched *cluster, name string) int32 {
	t.Helper()
	found, err := watched.client.AppsV1().Deployments(namespace).Get(
		context.Background(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return *found.Spec.Replicas
}

func waitFor(t *testing.T, holds func() bool) {
	t.Helper()
	for until := time.Now().Add(10 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("it did not happen within 10 s")
		}
	}
}
