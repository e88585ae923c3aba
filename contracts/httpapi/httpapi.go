// Package httpapi is what the HTTP contract generates: the table of operations here,
// a strict chi server for each owning service and a client for everything in the
// folders below. Nothing in it is written by hand but this file.
package httpapi

import (
	"strings"
	"time"
)

// Operation is one row of the contract.
type Operation struct {
	// ID is the operationId, also the last token of its subject on the bus.
	ID     string
	Method string
	// Path is the pattern, with {name} for a parameter.
	Path string
	// Services own it. Several do where each answers for its own part, as for jobs.
	Services []string
	// Permission is "<resource>:<action>", "authenticated" or "open".
	Permission string
	// PatienceSeconds is how long its answer may take to begin, where that is longer than usual; zero is the usual.
	PatienceSeconds int
}

// Patience is how long the answer to an operation may take to begin, zero for the usual.
func Patience(id string) time.Duration { return patience[id] }

var patience = func() map[string]time.Duration {
	longer := map[string]time.Duration{}
	for _, o := range Operations {
		if o.PatienceSeconds > 0 {
			longer[o.ID] = time.Duration(o.PatienceSeconds) * time.Second
		}
	}
	return longer
}()

// Open tells that the operation needs no credential.
func (o Operation) Open() bool { return o.Permission == "open" }

// Changes tells that the operation may change something, so that its answer waits
// for its audit record to be durable.
func (o Operation) Changes() bool { return o.Method != "GET" && o.Method != "HEAD" }

// OperationsOf lists the ids of the operations that a service answers.
func OperationsOf(service string) []string {
	var ids []string
	for _, o := range Operations {
		for _, s := range o.Services {
			if s == service {
				ids = append(ids, o.ID)
			}
		}
	}
	return ids
}

// Resource is what the operation is about: the part of its permission before the
// colon, empty if it is about none.
func (o Operation) Resource() string {
	resource, _, found := strings.Cut(o.Permission, ":")
	if !found {
		return ""
	}
	return resource
}
