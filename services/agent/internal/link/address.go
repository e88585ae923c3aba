package link

import (
	"errors"
	"net"
	"net/url"
	"strings"
)

// CheckURL refuses an address that would carry credentials in the clear over a
// network, or is none. Several addresses are separated by commas.
func CheckURL(list string) error {
	for address := range strings.SplitSeq(list, ",") {
		u, err := url.Parse(strings.TrimSpace(address))
		if err != nil || u.Host == "" {
			return errors.New("not an address such as nats://127.0.0.1:4223 or tls://leaf.example.com:4223")
		}
		switch u.Scheme {
		case "tls", "wss":
		case "nats", "ws":
			if !loopback(u.Hostname()) {
				return errors.New("plain text is for a leaf on this host only; use tls:// (or wss://)")
			}
		default:
			return errors.New("the scheme is none of nats, tls, ws and wss")
		}
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
