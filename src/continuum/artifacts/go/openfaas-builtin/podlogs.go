package main

import (
	"bufio"
	"context"
	"io"
	"log"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/openfaas/faas-provider/logs"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const lineLimit = 1 << 20

// podLogs finds what a function's pods write.
type podLogs struct {
	cluster *cluster
}

// ofKnown lets only requests about a function through that is there.
func ofKnown(watched *cluster, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, err := watched.function(r.URL.Query().Get("name")); err != nil {
			refuse(w, err)
			return
		}
		next(w, r)
	}
}

// Query tells the lines of all pods, in the order in which they come in.
func (l podLogs) Query(ctx context.Context, asked logs.Request) (<-chan logs.Message, error) {
	name := l.cluster.short(asked.Name)
	options := &corev1.PodLogOptions{Follow: asked.Follow, Timestamps: true}
	if asked.Tail > 0 {
		lines := int64(asked.Tail)
		options.TailLines = &lines
	}
	if asked.Since != nil {
		since := metav1.NewTime(*asked.Since)
		options.SinceTime = &since
	}
	messages := make(chan logs.Message)
	var running sync.WaitGroup
	for _, pod := range l.cluster.podsOf(name) {
		if asked.Instance != "" && asked.Instance != pod.Name {
			continue
		}
		running.Add(1)
		go func() {
			defer running.Done()
			l.send(ctx, name, pod.Name, options, messages)
		}()
	}
	go func() {
		running.Wait()
		close(messages)
	}()
	return messages, nil
}

func (l podLogs) send(
	ctx context.Context, name, pod string, options *corev1.PodLogOptions, to chan<- logs.Message,
) {
	pods := l.cluster.client.CoreV1().Pods(l.cluster.namespace)
	stream, err := pods.GetLogs(pod, options).Stream(ctx)
	if err != nil {
		log.Printf("the log of %s: %v", pod, err)
		return
	}
	defer stream.Close()
	copyLines(ctx, stream, logs.Message{Name: name, Namespace: l.cluster.namespace, Instance: pod}, to)
}

// copyLines sends lines that begin with their time.
func copyLines(ctx context.Context, from io.Reader, message logs.Message, to chan<- logs.Message) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, lineLimit)
	for lines.Scan() {
		told, text, _ := strings.Cut(lines.Text(), " ")
		when, err := time.Parse(time.RFC3339Nano, told)
		if err != nil {
			text = lines.Text()
		}
		message.Timestamp, message.Text = when, text
		select {
		case to <- message:
		case <-ctx.Done():
			return
		}
	}
}
