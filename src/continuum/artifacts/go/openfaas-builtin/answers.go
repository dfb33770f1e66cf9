package main

import (
	"encoding/json"
	"net/http"
	"runtime"

	"github.com/openfaas/faas-provider/types"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// What a request to the API may hold at most.
const bodyLimit = 4 << 20

func answer(w http.ResponseWriter, code int, content any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// Whoever does not listen any more is not told.
	_ = json.NewEncoder(w).Encode(content)
}

// read fills `asked` from the body; false when it cannot be read, which the client has been told.
func read(w http.ResponseWriter, r *http.Request, asked any) bool {
	body := http.MaxBytesReader(w, r.Body, bodyLimit)
	if err := json.NewDecoder(body).Decode(asked); err != nil {
		http.Error(w, "the request is no JSON that can be read: "+err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

// refuse passes on what the cluster says against a request.
func refuse(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	switch {
	case apierrors.IsNotFound(err):
		code = http.StatusNotFound
	case apierrors.IsAlreadyExists(err):
		code = http.StatusConflict
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		code = http.StatusBadRequest
	}
	http.Error(w, err.Error(), code)
}

// ours tells whether a namespace is that of the functions; the client is told when it is not.
func ours(w http.ResponseWriter, namespace, own string) bool {
	if namespace == "" || namespace == own {
		return true
	}
	http.Error(w, "namespace: functions live in "+own, http.StatusBadRequest)
	return false
}

func info(w http.ResponseWriter, _ *http.Request) {
	release := &types.VersionInfo{Release: version, SHA: version}
	answer(w, http.StatusOK, map[string]any{
		"provider": types.ProviderInfo{
			Name: "openfaas-builtin", Orchestration: "kubernetes", Version: release,
		},
		"version": release,
		"arch":    map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH],
	})
}
