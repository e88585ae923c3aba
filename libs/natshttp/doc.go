// Package natshttp carries plain net/http over NATS request/reply.
package natshttp
