// Command echo is a function as a person would write one: it answers what it is sent, and on the
// paths /slow, /fail and /die it does what functions should not do.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	if os.Getenv("BEHAVIOUR") == "crash" {
		fmt.Println("cannot start")
		os.Exit(1)
	}
	http.HandleFunc("/_/health", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/slow", func(http.ResponseWriter, *http.Request) { time.Sleep(10 * time.Second) })
	http.HandleFunc("/die", func(http.ResponseWriter, *http.Request) { os.Exit(3) })
	http.HandleFunc("/fail", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "it failed", http.StatusInternalServerError)
	})
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Println(r.Method, r.URL)
		w.Header().Set("X-Path", r.URL.RequestURI())
		w.Header().Set("X-Greeting", os.Getenv("GREETING"))
		body, _ := io.ReadAll(r.Body)
		w.Write(body)
	})
	fmt.Println("listening")
	fmt.Println(http.ListenAndServe(":8080", nil))
}
