// Package contracts is the root of the words that services, agents and clients share:
// the HTTP contract in openapi and httpapi, the events in event, requests and orders
// in command, names on the bus in subject and stream.
//
//go:generate go run ./internal/gen
package contracts
