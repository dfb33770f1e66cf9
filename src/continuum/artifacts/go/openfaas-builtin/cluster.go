package main

import (
	"context"
	"errors"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/retry"
)

// cluster knows the functions and their pods from a watch, so that an invocation asks nobody.
type cluster struct {
	client      kubernetes.Interface
	namespace   string
	informers   informers.SharedInformerFactory
	deployments appslisters.DeploymentLister
	pods        corelisters.PodLister
	raising     sync.Map // a mutex by the name of a function
	turns       atomic.Uint64

	mutex   sync.Mutex
	changed chan struct{}
}

func newCluster(client kubernetes.Interface, namespace string) *cluster {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = functionLabel }))
	watched := &cluster{
		client:      client,
		namespace:   namespace,
		informers:   factory,
		deployments: factory.Apps().V1().Deployments().Lister(),
		pods:        factory.Core().V1().Pods().Lister(),
		changed:     make(chan struct{}),
	}
	told := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { watched.tell() },
		UpdateFunc: func(any, any) { watched.tell() },
		DeleteFunc: func(any) { watched.tell() },
	}
	for _, each := range []cache.SharedIndexInformer{
		factory.Apps().V1().Deployments().Informer(), factory.Core().V1().Pods().Informer(),
	} {
		// It refuses only once it has been stopped.
		_, _ = each.AddEventHandler(told)
	}
	return watched
}

// start returns once everything is known that there is now.
func (c *cluster) start(ctx context.Context) error {
	c.informers.Start(ctx.Done())
	for kind, known := range c.informers.WaitForCacheSync(ctx.Done()) {
		if !known {
			return errors.New("cannot watch " + kind.String())
		}
	}
	return nil
}

func (c *cluster) tell() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
}

// change is closed at the next change of a function or a pod.
func (c *cluster) change() <-chan struct{} {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.changed
}

// function is what is known of one by its name, which may have the namespace behind it.
func (c *cluster) function(name string) (*appsv1.Deployment, error) {
	return c.deployments.Deployments(c.namespace).Get(c.short(name))
}

func (c *cluster) short(name string) string {
	return strings.TrimSuffix(name, "."+c.namespace)
}

func (c *cluster) podsOf(name string) []*corev1.Pod {
	chosen := labels.SelectorFromSet(labels.Set{functionLabel: name})
	// A list from memory cannot fail.
	found, _ := c.pods.Pods(c.namespace).List(chosen)
	return found
}

// addresses are those of a function's pods that are ready, each time another one first.
func (c *cluster) addresses(name string) []string {
	var found []string
	for _, pod := range c.podsOf(name) {
		if isReady(pod) {
			found = append(found, pod.Status.PodIP)
		}
	}
	if len(found) < 2 {
		return found
	}
	sort.Strings(found)
	first := int(c.turns.Add(1) % uint64(len(found)))
	return append(found[first:], found[:first]...)
}

func isReady(pod *corev1.Pod) bool {
	if pod.DeletionTimestamp != nil || pod.Status.PodIP == "" {
		return false
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// Waiting for these two is part of every start; all other reasons tell of something that is wrong.
var usual = map[string]bool{"ContainerCreating": true, "PodInitializing": true, "": true}

// trouble says why a function's pods do not start; "" while they may.
func (c *cluster) trouble(name string) string {
	for _, pod := range c.podsOf(name) {
		for _, container := range pod.Status.ContainerStatuses {
			if waiting := container.State.Waiting; waiting != nil && !usual[waiting.Reason] {
				return strings.TrimSuffix(waiting.Reason+": "+waiting.Message, ": ")
			}
		}
	}
	return ""
}

// raise brings a function from no replica to the least that it may have.
func (c *cluster) raise(ctx context.Context, function *appsv1.Deployment) error {
	kept, _ := c.raising.LoadOrStore(function.Name, &sync.Mutex{})
	mutex := kept.(*sync.Mutex)
	if !mutex.TryLock() {
		return nil // somebody else is about it
	}
	defer mutex.Unlock()
	return c.setReplicas(ctx, function.Name, leastReplicas(function))
}

func (c *cluster) setReplicas(ctx context.Context, name string, replicas int32) error {
	deployments := c.client.AppsV1().Deployments(c.namespace)
	// The cluster itself writes to it while pods come and go.
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		scale, err := deployments.GetScale(ctx, name, metav1.GetOptions{})
		if err != nil || scale.Spec.Replicas == replicas {
			return err
		}
		scale.Spec.Replicas = replicas
		_, err = deployments.UpdateScale(ctx, name, scale, metav1.UpdateOptions{})
		return err
	})
}
