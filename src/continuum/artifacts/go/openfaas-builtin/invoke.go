package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"time"

	"github.com/gorilla/mux"
)

type targetKey struct{}

// invoker passes calls on to pods, over connections that are kept.
type invoker struct {
	cluster *cluster
	metrics *metrics
	exec    time.Duration
	ready   time.Duration
	proxy   *httputil.ReverseProxy
}

func newInvoker(watched *cluster, counted *metrics, settings settings) *invoker {
	called := &invoker{
		cluster: watched, metrics: counted, exec: settings.exec, ready: settings.ready,
	}
	called.proxy = &httputil.ReverseProxy{
		Rewrite:      rewrite,
		Transport:    newTransport(functionPort),
		BufferPool:   &buffers{},
		ErrorHandler: called.failed,
		ErrorLog:     log.New(quiet{}, "", 0),
	}
	return called
}

// target is where one call goes.
type target struct {
	name      string
	path      string
	addresses []string
}

func (i *invoker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	asked := mux.Vars(r)
	name := i.cluster.short(asked["name"])
	begun := time.Now()
	addresses, refusal := i.await(r.Context(), name)
	if refusal != nil && refusal.code == http.StatusNotFound {
		// Not counted: whoever guesses names would make metrics without end.
		http.Error(w, refusal.Error(), refusal.code)
		return
	}
	i.metrics.begin(name)
	noted := &recorder{ResponseWriter: w, code: http.StatusOK}
	defer func() { i.metrics.end(name, noted.code, time.Since(begun)) }()
	noted.Header().Set("X-Start-Time", strconv.FormatInt(begun.UnixNano(), 10))
	if r.Header.Get("X-Call-Id") == "" {
		r.Header.Set("X-Call-Id", rand.Text())
	}
	noted.Header().Set("X-Call-Id", r.Header.Get("X-Call-Id"))
	if refusal != nil {
		http.Error(noted, refusal.Error(), refusal.code)
		return
	}
	// A function may answer before it has read all that it is sent. Only HTTP/2 has that already.
	_ = http.NewResponseController(w).EnableFullDuplex()
	ctx, cancel := context.WithTimeout(r.Context(), i.exec)
	defer cancel()
	ctx = context.WithValue(ctx, targetKey{}, target{name, "/" + asked["params"], addresses})
	i.proxy.ServeHTTP(noted, r.WithContext(ctx))
}

type refusal struct {
	code int
	text string
}

func (r *refusal) Error() string { return r.text }

// await holds a call until a pod of its function is ready, which it starts if there is none.
func (i *invoker) await(ctx context.Context, name string) ([]string, *refusal) {
	var until <-chan time.Time
	for {
		changed := i.cluster.change()
		function, err := i.cluster.function(name)
		if err != nil {
			return nil, &refusal{http.StatusNotFound, fmt.Sprintf("there is no function %q", name)}
		}
		if addresses := i.cluster.addresses(name); len(addresses) > 0 {
			return addresses, nil
		}
		if function.Spec.Replicas != nil && *function.Spec.Replicas == 0 {
			if err := i.cluster.raise(ctx, function); err != nil {
				return nil, &refusal{http.StatusServiceUnavailable,
					fmt.Sprintf("function %s cannot be started: %v", name, err)}
			}
		}
		if trouble := i.cluster.trouble(name); trouble != "" {
			return nil, &refusal{http.StatusServiceUnavailable,
				fmt.Sprintf("function %s does not start: %s", name, trouble)}
		}
		if until == nil {
			timer := time.NewTimer(i.ready)
			defer timer.Stop()
			until = timer.C
		}
		select {
		case <-changed:
		case <-until:
			return nil, &refusal{http.StatusServiceUnavailable,
				fmt.Sprintf("function %s is not ready within %s", name, i.ready)}
		case <-ctx.Done():
			return nil, &refusal{http.StatusServiceUnavailable, "the caller has gone"}
		}
	}
}

func rewrite(r *httputil.ProxyRequest) {
	to := r.In.Context().Value(targetKey{}).(target)
	r.SetXForwarded()
	r.Out.Host = r.In.Host
	r.Out.URL.Scheme = "http"
	r.Out.URL.Host = to.addresses[0]
	r.Out.URL.Path, r.Out.URL.RawPath = to.path, ""
}

func (i *invoker) failed(w http.ResponseWriter, r *http.Request, err error) {
	name := r.Context().Value(targetKey{}).(target).name
	var slow net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		http.Error(w, fmt.Sprintf("function %s did not answer within %s", name, i.exec),
			http.StatusGatewayTimeout)
	case errors.Is(err, context.Canceled):
		w.WriteHeader(http.StatusBadGateway)
	case errors.As(err, &slow) && slow.Timeout():
		http.Error(w, fmt.Sprintf("function %s: %v", name, err), http.StatusGatewayTimeout)
	default:
		http.Error(w, fmt.Sprintf("function %s ended before it had answered: %v", name, err),
			http.StatusBadGateway)
	}
}

// recorder notes the status of an answer.
type recorder struct {
	http.ResponseWriter
	code int
}

func (r *recorder) WriteHeader(code int) {
	r.code = code
	r.ResponseWriter.WriteHeader(code)
}

// Unwrap lets answers be flushed as they come.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
