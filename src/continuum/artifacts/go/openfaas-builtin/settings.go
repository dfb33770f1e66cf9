package main

import (
	"fmt"
	"strconv"
	"time"
)

// settings are read from environment variables, with OpenFaaS' names where it has one.
type settings struct {
	port      int
	namespace string        // where functions live
	secrets   string        // folder with basic-auth-user and basic-auth-password
	exec      time.Duration // for an answer of a function that is ready
	ready     time.Duration // for a function to become ready
}

func readSettings(get func(string) string) (settings, error) {
	or := func(name, otherwise string) string {
		if value := get(name); value != "" {
			return value
		}
		return otherwise
	}
	found := settings{
		namespace: or("function_namespace", "openfaas-fn"),
		secrets:   or("secret_mount_path", "/var/secrets"),
	}
	var err error
	if found.port, err = strconv.Atoi(or("port", "8080")); err != nil {
		return found, fmt.Errorf("port: %w", err)
	}
	if found.exec, err = time.ParseDuration(or("exec_timeout", "60s")); err != nil {
		return found, fmt.Errorf("exec_timeout: %w", err)
	}
	if found.ready, err = time.ParseDuration(or("ready_timeout", "30s")); err != nil {
		return found, fmt.Errorf("ready_timeout: %w", err)
	}
	return found, nil
}
