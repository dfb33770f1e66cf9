package main

import (
	"net/http"

	"github.com/openfaas/faas-provider/types"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	managedLabel = "app.kubernetes.io/managed-by"
	managed      = "openfaas"
)

// secretAPI keeps files for functions, which find them in a folder.
type secretAPI struct {
	cluster *cluster
}

func (s secretAPI) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		s.list(w, r)
		return
	}
	var asked types.Secret
	if !read(w, r, &asked) || !ours(w, asked.Namespace, s.cluster.namespace) {
		return
	}
	secrets := s.cluster.client.CoreV1().Secrets(s.cluster.namespace)
	var err error
	code := http.StatusCreated
	switch r.Method {
	case http.MethodPost:
		_, err = secrets.Create(r.Context(), s.object(asked), metav1.CreateOptions{})
	case http.MethodPut:
		code = http.StatusOK
		_, err = secrets.Update(r.Context(), s.object(asked), metav1.UpdateOptions{})
	default:
		// OpenFaaS' specification says 204, which its own command line takes for an error.
		code = http.StatusAccepted
		err = secrets.Delete(r.Context(), asked.Name, metav1.DeleteOptions{})
	}
	if err != nil {
		refuse(w, err)
		return
	}
	w.WriteHeader(code)
}

func (s secretAPI) list(w http.ResponseWriter, r *http.Request) {
	if !ours(w, r.URL.Query().Get("namespace"), s.cluster.namespace) {
		return
	}
	options := metav1.ListOptions{LabelSelector: managedLabel + "=" + managed}
	found, err := s.cluster.client.CoreV1().Secrets(s.cluster.namespace).List(r.Context(), options)
	if err != nil {
		refuse(w, err)
		return
	}
	named := make([]types.Secret, 0, len(found.Items))
	for _, each := range found.Items {
		named = append(named, types.Secret{Name: each.Name, Namespace: each.Namespace})
	}
	answer(w, http.StatusOK, named)
}

func (s secretAPI) object(asked types.Secret) *corev1.Secret {
	content := asked.RawValue
	if asked.Value != "" {
		content = []byte(asked.Value)
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name:      asked.Name,
			Namespace: s.cluster.namespace,
			Labels:    map[string]string{managedLabel: managed},
		},
		Type: corev1.SecretTypeOpaque,
		Data: map[string][]byte{asked.Name: content},
	}
}
