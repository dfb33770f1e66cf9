package main

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/labels"
)

// metrics have the names that OpenFaaS' gateway gives them.
type metrics struct {
	cluster  *cluster
	calls    *prometheus.CounterVec
	started  *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	replicas *prometheus.Desc
	counts   sync.Map // *atomic.Uint64 by the name of a function
}

func newMetrics(watched *cluster) *metrics {
	told := &metrics{
		cluster: watched,
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_function_invocation_total", Help: "Calls of functions that were answered.",
		}, []string{"function_name", "code"}),
		started: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_function_invocation_started", Help: "Calls of functions that came in.",
		}, []string{"function_name"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gateway_functions_seconds", Help: "Time from a call to the end of its answer.",
			Buckets: []float64{.002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60},
		}, []string{"function_name", "code"}),
		replicas: prometheus.NewDesc(
			"gateway_service_count", "Replicas that a function ought to have.",
			[]string{"function_name"}, nil,
		),
	}
	return told
}

// Describe and Collect make it a collector of all of them.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	m.calls.Describe(to)
	m.started.Describe(to)
	m.seconds.Describe(to)
	to <- m.replicas
}

func (m *metrics) Collect(to chan<- prometheus.Metric) {
	m.calls.Collect(to)
	m.started.Collect(to)
	m.seconds.Collect(to)
	functions, _ := m.cluster.deployments.Deployments(m.cluster.namespace).List(labels.Everything())
	for _, each := range functions {
		if each.Spec.Replicas != nil {
			to <- prometheus.MustNewConstMetric(
				m.replicas, prometheus.GaugeValue, float64(*each.Spec.Replicas), m.label(each.Name))
		}
	}
}

func (m *metrics) label(name string) string {
	return name + "." + m.cluster.namespace
}

func (m *metrics) begin(name string) {
	m.started.WithLabelValues(m.label(name)).Inc()
}

func (m *metrics) end(name string, code int, took time.Duration) {
	kept, _ := m.counts.LoadOrStore(name, &atomic.Uint64{})
	kept.(*atomic.Uint64).Add(1)
	label, text := m.label(name), strconv.Itoa(code)
	m.calls.WithLabelValues(label, text).Inc()
	m.seconds.WithLabelValues(label, text).Observe(took.Seconds())
}

func (m *metrics) invocations(name string) float64 {
	kept, found := m.counts.Load(name)
	if !found {
		return 0
	}
	return float64(kept.(*atomic.Uint64).Load())
}
