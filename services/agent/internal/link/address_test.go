package link

import "testing"

func TestCheckURL_LetsPlainTextStayOnTheHost(t *testing.T) {
	for _, good := range []string{
		"nats://127.0.0.1:4223", "nats://localhost:4223", "nats://[::1]:4223", "tls://leaf.example.test:4223", "wss://leaf.example.test",
		"tls://a.example.test:4223, tls://b.example.test:4223",
	} {
		if err := CheckURL(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "127.0.0.1:4223", "nats://leaf.example.test:4223", "nats://10.0.0.1:4223", "ws://leaf.example.test", "http://127.0.0.1:4223",
		"nats://127.0.0.1:4223,nats://10.0.0.1:4223", "nats://127.0.0.1.example.test:4223",
	} {
		if CheckURL(bad) == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}
