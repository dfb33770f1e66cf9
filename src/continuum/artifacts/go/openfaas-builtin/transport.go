package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	connectLimit = 2 * time.Second
	keptIdle     = time.Minute
	bufferSize   = 32 << 10
)

// transport reaches one of a call's pods: the first that takes the connection.
type transport struct {
	port string
	http *http.Transport
}

func newTransport(port int) *transport {
	dialer := &net.Dialer{Timeout: connectLimit, KeepAlive: 15 * time.Second}
	return &transport{strconv.Itoa(port), &http.Transport{
		DialContext:         dialer.DialContext,
		MaxIdleConnsPerHost: 1024,
		IdleConnTimeout:     keptIdle,
		DisableCompression:  true,
	}}
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	to := r.Context().Value(targetKey{}).(target)
	body := r.Body
	if body != nil {
		// A failed attempt closes the body, which the next one needs; the server closes it in the end.
		r.Body = io.NopCloser(body)
	}
	var answer *http.Response
	var err error
	for _, address := range to.addresses {
		r.URL.Host = net.JoinHostPort(address, t.port)
		answer, err = t.http.RoundTrip(r)
		var network *net.OpError
		// Nothing was sent yet: a pod that has just gone is no matter for the caller.
		if err == nil || !errors.As(err, &network) || network.Op != "dial" {
			break
		}
	}
	return answer, err
}

// buffers are used again.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if kept, ok := b.pool.Get().(*[]byte); ok {
		return *kept
	}
	return make([]byte, bufferSize)
}

func (b *buffers) Put(used []byte) { b.pool.Put(&used) }

// quiet takes what the proxy would write about callers that have gone.
type quiet struct{}

func (quiet) Write(text []byte) (int, error) { return len(text), nil }
