package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/mux"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// calling is a gateway for functions that listen where `target` does.
func calling(t *testing.T, watched *cluster, target *httptest.Server, given settings) *httptest.Server {
	t.Helper()
	called := newInvoker(watched, newMetrics(watched), given)
	if target != nil {
		address, _ := url.Parse(target.URL)
		port, _ := strconv.Atoi(address.Port())
		called.proxy.Transport = newTransport(port)
	}
	routes := mux.NewRouter()
	routes.HandleFunc("/function/{name}", called.ServeHTTP)
	routes.HandleFunc("/function/{name}/{params:.*}", called.ServeHTTP)
	served := httptest.NewServer(routes)
	t.Cleanup(served.Close)
	return served
}

func get(t *testing.T, address string) (int, string, http.Header) {
	t.Helper()
	answered, err := http.Post(address, "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer answered.Body.Close()
	text, _ := io.ReadAll(answered.Body)
	return answered.StatusCode, string(text), answered.Header
}

func function(w http.ResponseWriter, r *http.Request) {
	// A server sees that its caller has gone only once it has read what it was sent.
	body, _ := io.ReadAll(r.Body)
	switch r.URL.Path {
	case "/slow":
		<-r.Context().Done()
	case "/die":
		panic(http.ErrAbortHandler)
	case "/fail":
		w.WriteHeader(http.StatusInternalServerError)
	default:
		fmt.Fprintf(w, "%s %s %s", r.Method, r.URL, body)
	}
}

func TestACallReachesAPodWithItsPathAndItsBody(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(function))
	defer target.Close()
	watched := running(t, deployed("echo", 1), pod("echo", "127.0.0.1", true))
	address := calling(t, watched, target, settings{exec: time.Minute, ready: time.Second}).URL
	for path, expected := range map[string]string{
		"/function/echo":                  "POST / hello",
		"/function/echo/a/b?x=1":          "POST /a/b?x=1 hello",
		"/function/echo.openfaas-fn/a%20": "POST /a%20 hello",
	} {
		code, text, header := get(t, address+path)
		if code != http.StatusOK || text != expected || header.Get("X-Call-Id") == "" {
			t.Errorf("%s: %d %q %v", path, code, text, header)
		}
	}
}

func TestWhatGoesWrongIsTold(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(function))
	defer target.Close()
	broken := pod("broken", "", false)
	broken.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{
		Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off"},
	}}}
	watched := running(t,
		deployed("echo", 1), pod("echo", "127.0.0.1", true), deployed("broken", 1), broken,
		deployed("late", 1), pod("late", "127.0.0.1", false))
	address := calling(t, watched, target,
		settings{exec: 100 * time.Millisecond, ready: 100 * time.Millisecond}).URL
	for path, expected := range map[string]struct {
		code int
		text string
	}{
		"echo/slow": {http.StatusGatewayTimeout, "did not answer within 100ms"},
		"echo/die":  {http.StatusBadGateway, "ended before it had answered"},
		"echo/fail": {http.StatusInternalServerError, ""},
		"none":      {http.StatusNotFound, `no function "none"`},
		"broken":    {http.StatusServiceUnavailable, "CrashLoopBackOff: back-off"},
		"late":      {http.StatusServiceUnavailable, "not ready within 100ms"},
	} {
		code, text, _ := get(t, address+"/function/"+path)
		if code != expected.code || !strings.Contains(text, expected.text) {
			t.Errorf("%s: %d %q", path, code, text)
		}
	}
}

func TestAPodThatHasGoneIsPassedOver(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(function))
	defer target.Close()
	// Nothing listens on the second address.
	gone := pod("echo", "127.0.0.2", true)
	gone.Name = "echo-gone"
	watched := running(t, deployed("echo", 2), pod("echo", "127.0.0.1", true), gone)
	address := calling(t, watched, target, settings{exec: time.Minute, ready: time.Second}).URL
	for range 4 {
		if code, text, _ := get(t, address+"/function/echo"); code != http.StatusOK || text != "POST / hello" {
			t.Errorf("%d %q", code, text)
		}
	}
}

func TestTheFirstCallOfAFunctionWithoutReplicasIsHeldUntilOneIsReady(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(function))
	defer target.Close()
	watched := running(t, deployed("echo", 0))
	address := calling(t, watched, target, settings{exec: time.Minute, ready: 20 * time.Second}).URL
	codes := make(chan int)
	for range 2 {
		go func() {
			code, _, _ := get(t, address+"/function/echo")
			codes <- code
		}()
	}
	waitFor(t, func() bool { return replicas(t, watched, "echo") == 1 })
	pods := watched.client.CoreV1().Pods(watched.namespace)
	_, err := pods.Create(context.Background(), pod("echo", "127.0.0.1", true), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if code := <-codes; code != http.StatusOK {
			t.Error(code)
		}
	}
}
