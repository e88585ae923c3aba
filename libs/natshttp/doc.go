// Package natshttp carries plain net/http over NATS request/reply: Transport is an http.RoundTripper, Serve runs an
// http.Handler, and neither side need know of the other kind of transport.
//
// The request's route (WithRoute) is its subject, svc.<service>.v1.<operation>, which all replicas of the service share
// as one queue group. The request is one message, so its body is at most MaxRequestBody bytes. A response of up to
// 512 KiB is one message too; a longer one, and one that the handler flushes, is streamed in chunks that the reader asks
// for: the server never runs ahead of the reader by more than a few chunks, a reader that is slow loses nothing, and a
// reader that closes early, or vanishes, ends the handler's context.
//
// With a request travel its method, path, query and headers, the principal (authn.FromContext), the request's id
// (obs.RequestID) and trace of its context, and the time the caller is willing to wait, after which the handler's
// context ends. Headers that concern one connection are dropped on both sides, and so are the caller's credentials
// (Authorization, Cookie) and whatever a client sends under the names of the above.
//
// A service that is not there, or too busy, is told at once: fault.Unavailable, or a 503. Nothing is retried here.
//
// Serve answers the discovery subjects of NATS micro (ADR-32), so "nats micro stats <service>" shows each operation. It
// does so itself, because the micro package times only its callback, which must return at once for requests to run side
// by side; so the times shown here are those of the handlers.
//
// Permissions needed, and no others:
//
//	caller   publish   svc.<service>.v1.>      requests, and the chunks asked for (svc.<service>.v1._stream.>)
//	         subscribe <inbox prefix>.>        responses and chunks
//	server   subscribe svc.<service>.v1.>      (queue group "q") and $SRV.>
//	         allow_responses                   one message, valid for longer than the slowest handler takes to begin its
//	                                           response; 2 minutes, the server's default, will do
package natshttp
