// Command openfaas-builtin answers OpenFaaS' REST API in a Kubernetes cluster, on OpenFaaS' own SDK
// for providers. It is OpenFaaS' API, not OpenFaaS.
package main

import (
	"context"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	bootstrap "github.com/openfaas/faas-provider"
	"github.com/openfaas/faas-provider/auth"
	"github.com/openfaas/faas-provider/logs"
	"github.com/openfaas/faas-provider/types"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

var version = "unknown"

// What a connection that nobody uses may last, and what a log may be followed for.
const (
	idleLimit   = 5 * time.Minute
	followLimit = time.Hour
)

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	settings, err := readSettings(os.Getenv)
	if err != nil {
		log.Fatal(err)
	}
	client, err := connect()
	if err != nil {
		log.Fatalf("the cluster: %v", err)
	}
	watched := newCluster(client, settings.namespace)
	if err := watched.start(ctx); err != nil {
		log.Fatalf("the cluster: %v", err)
	}
	serve(ctx, watched, settings)
}

func connect() (kubernetes.Interface, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, err
	}
	// Without this, the client itself would hold back what many functions at once ask for.
	config.QPS, config.Burst = 200, 400
	return kubernetes.NewForConfig(config)
}

func serve(ctx context.Context, watched *cluster, settings settings) {
	reader := auth.ReadBasicAuthFromDisk{SecretMountPath: settings.secrets}
	credentials, err := reader.Read()
	if err != nil {
		log.Fatalf("the password: %v", err)
	}
	api := handlers(watched, settings)
	// The SDK leaves this one open; OpenFaaS' gateway asks for a password.
	api.ListNamespaces = auth.DecorateWithBasicAuth(api.ListNamespaces, credentials)
	bootstrap.Router().PathPrefix("/async-function/").HandlerFunc(notQueued)
	bootstrap.Serve(ctx, api, &types.FaaSConfig{
		TCPPort:         &settings.port,
		ReadTimeout:     idleLimit,
		EnableBasicAuth: true,
		SecretMountPath: settings.secrets,
	})
}

func handlers(watched *cluster, settings settings) *types.FaaSHandlers {
	counted := newMetrics(watched)
	prometheus.MustRegister(counted)
	functions := functionAPI{watched, counted}
	secrets := secretAPI{watched}
	return &types.FaaSHandlers{
		FunctionProxy:  newInvoker(watched, counted, settings).ServeHTTP,
		FunctionLister: functions.list,
		DeployFunction: functions.deploy,
		UpdateFunction: functions.update,
		DeleteFunction: functions.remove,
		FunctionStatus: functions.status,
		ScaleFunction:  functions.scale,
		ListNamespaces: functions.namespaces,
		Secrets:        secrets.serve,
		Logs:           ofKnown(watched, logs.NewLogHandlerFunc(podLogs{watched}, followLimit)),
		Info:           info,
		Health:         func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) },
	}
}

func notQueued(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "this distribution has no queue: call /function/NAME", http.StatusNotImplemented)
}
