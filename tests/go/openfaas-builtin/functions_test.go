package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/gorilla/mux"
	"github.com/openfaas/faas-provider/types"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func api(watched *cluster) http.Handler {
	functions := functionAPI{watched, newMetrics(watched)}
	routes := mux.NewRouter()
	routes.HandleFunc("/system/functions", functions.list).Methods("GET")
	routes.HandleFunc("/system/functions", functions.deploy).Methods("POST")
	routes.HandleFunc("/system/functions", functions.update).Methods("PUT")
	routes.HandleFunc("/system/functions", functions.remove).Methods("DELETE")
	routes.HandleFunc("/system/function/{name}", functions.status).Methods("GET")
	routes.HandleFunc("/system/scale-function/{name}", functions.scale).Methods("POST")
	routes.HandleFunc("/system/secrets", secretAPI{watched}.serve)
	return routes
}

func ask(routes http.Handler, method, path, body string) *httptest.ResponseRecorder {
	answered := httptest.NewRecorder()
	routes.ServeHTTP(answered, httptest.NewRequest(method, path, strings.NewReader(body)))
	return answered
}

func TestAFunctionIsToldAsItWasAskedFor(t *testing.T) {
	asked := types.FunctionDeployment{
		Service: "classify", Image: "registry.example/classify:1", EnvProcess: "python3 main.py",
		EnvVars:     map[string]string{"MODEL": "lite0"},
		Constraints: []string{"kubernetes.io/hostname=edge-1", "kubernetes.io/hostname=edge-2"},
		Secrets:     []string{"key"},
		Labels:      &map[string]string{leastLabel: "2"},
		Annotations: &map[string]string{"topic": "photos"},
		Limits:      &types.FunctionResources{Memory: "128Mi", CPU: "500m"},

		ReadOnlyRootFilesystem: true,
	}
	function, err := deploymentOf(asked, namespace)
	if err != nil {
		t.Fatal(err)
	}
	told := statusOf(function, 3)
	if told.EnvProcess != asked.EnvProcess || !reflect.DeepEqual(told.EnvVars, asked.EnvVars) ||
		!reflect.DeepEqual(told.Constraints, asked.Constraints) ||
		!reflect.DeepEqual(told.Secrets, asked.Secrets) ||
		!reflect.DeepEqual(told.Limits, asked.Limits) || told.Requests != nil ||
		told.Replicas != 2 || told.InvocationCount != 3 || !told.ReadOnlyRootFilesystem ||
		(*told.Labels)[leastLabel] != "2" || (*told.Annotations)["topic"] != "photos" {
		t.Errorf("%+v", told)
	}
}

func TestRequestsThatCannotBeAreRefusedWithTheirReason(t *testing.T) {
	routes := api(running(t, deployed("echo", 1)))
	for _, each := range []struct {
		method, path, body string
		code               int
		text               string
	}{
		{"POST", "/system/functions", "{", 400, "no JSON"},
		{"POST", "/system/functions", `{"service":"No!","image":"a:1"}`, 400, "is no name"},
		{"POST", "/system/functions", `{"service":"a"}`, 400, "image"},
		{"POST", "/system/functions", `{"service":"a","image":"a:1","constraints":["x"]}`, 400, "LABEL=VALUE"},
		{"POST", "/system/functions", `{"service":"a","image":"a:1","limits":{"cpu":"much"}}`, 400, "no amount"},
		{"POST", "/system/functions", `{"service":"a","image":"a:1","labels":{"com.openfaas.scale.min":"x"}}`, 400, "scale.min"},
		{"POST", "/system/functions", `{"service":"a","image":"a:1","namespace":"default"}`, 400, "openfaas-fn"},
		{"POST", "/system/functions", `{"service":"echo","image":"a:1"}`, 409, "already exists"},
		{"PUT", "/system/functions", `{"service":"none","image":"a:1"}`, 404, "not found"},
		{"DELETE", "/system/functions", `{"functionName":"none"}`, 404, "not found"},
		{"DELETE", "/system/functions", `{}`, 400, "functionName"},
		{"GET", "/system/function/none", "", 404, "not found"},
		{"POST", "/system/scale-function/none", `{"replicas":1}`, 404, "not found"},
		{"POST", "/system/scale-function/echo", `{"replicas":99999}`, 400, "replicas"},
	} {
		told := ask(routes, each.method, each.path, each.body)
		if told.Code != each.code || !strings.Contains(told.Body.String(), each.text) {
			t.Errorf("%s %s %s: %d %s", each.method, each.path, each.body, told.Code, told.Body)
		}
	}
}

func TestAFunctionFromItsDeploymentToItsRemoval(t *testing.T) {
	watched := running(t)
	routes := api(watched)
	body := `{"service":"echo","image":"echo:1","labels":{"com.openfaas.scale.max":"3"}}`
	if told := ask(routes, "POST", "/system/functions", body); told.Code != http.StatusAccepted {
		t.Fatal(told.Code, told.Body)
	}
	waitFor(t, func() bool { return ask(routes, "GET", "/system/function/echo", "").Code == 200 })
	scaled := ask(routes, "POST", "/system/scale-function/echo", `{"serviceName":"echo","replicas":3}`)
	if scaled.Code != http.StatusAccepted || replicas(t, watched, "echo") != 3 {
		t.Error(scaled.Code, scaled.Body)
	}
	over := ask(routes, "POST", "/system/scale-function/echo", `{"serviceName":"echo","replicas":4}`)
	if over.Code != http.StatusBadRequest || replicas(t, watched, "echo") != 3 {
		t.Error(over.Code, over.Body)
	}
	updated := ask(routes, "PUT", "/system/functions", `{"service":"echo","image":"echo:2"}`)
	if updated.Code != http.StatusOK || replicas(t, watched, "echo") != 3 {
		t.Error("an update keeps the replicas", updated.Code, updated.Body)
	}
	waitFor(t, func() bool {
		var found []types.FunctionStatus
		err := json.Unmarshal(ask(routes, "GET", "/system/functions", "").Body.Bytes(), &found)
		return err == nil && len(found) == 1 && found[0].Image == "echo:2"
	})
	removed := ask(routes, "DELETE", "/system/functions", `{"functionName":"echo"}`)
	if removed.Code != http.StatusOK {
		t.Error(removed.Code, removed.Body)
	}
	waitFor(t, func() bool { return ask(routes, "GET", "/system/function/echo", "").Code == 404 })
}

func TestAScaleThatTheClusterCrossesIsTriedAgain(t *testing.T) {
	watched := running(t, deployed("echo", 1))
	crossed := 0
	client := watched.client.(*fake.Clientset)
	client.PrependReactor("update", "deployments", func(a clienttesting.Action) (bool, runtime.Object, error) {
		crossed++
		kind := schema.GroupResource{Group: "apps", Resource: "deployments"}
		return crossed == 1, nil, apierrors.NewConflict(kind, "echo", errors.New("modified"))
	})
	told := ask(api(watched), "POST", "/system/scale-function/echo", `{"replicas":2}`)
	if told.Code != http.StatusAccepted || crossed != 2 || replicas(t, watched, "echo") != 2 {
		t.Error(told.Code, told.Body, crossed)
	}
}

func TestSecretsAreKeptAndTheirContentIsNotTold(t *testing.T) {
	routes := api(running(t))
	for _, each := range []struct {
		method, body string
		code         int
	}{
		{"POST", `{"name":"key","value":"one"}`, 201},
		{"POST", `{"name":"key","value":"one"}`, 409},
		{"PUT", `{"name":"key","value":"two"}`, 200},
		{"PUT", `{"name":"other","value":"two"}`, 404},
	} {
		if told := ask(routes, each.method, "/system/secrets", each.body); told.Code != each.code {
			t.Errorf("%s %s: %d %s", each.method, each.body, told.Code, told.Body)
		}
	}
	listed := ask(routes, "GET", "/system/secrets", "").Body.String()
	if !strings.Contains(listed, `"key"`) || strings.Contains(listed, "two") {
		t.Error(listed)
	}
	if told := ask(routes, "DELETE", "/system/secrets", `{"name":"key"}`); told.Code != http.StatusAccepted {
		t.Error(told.Code, told.Body)
	}
}
