// Package survival kills certctl's processes while it works, and looks whether anything
// was lost or done twice. Everything in it is real: the binaries, Postgres, NATS, NGINX,
// the TLS handshakes. It holds only tests.
package survival
