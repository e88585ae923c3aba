package http01_test

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/services/agent/internal/http01"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func answer(token string) command.HTTP01Answer {
	token += strings.Repeat("x", 22)
	return command.HTTP01Answer{Token: token, KeyAuthorization: token + "." + strings.Repeat("T", 43)}
}

func free(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func listening(t *testing.T) *http01.Responder {
	t.Helper()
	r := &http01.Responder{Address: free(t), Log: slog.New(slog.DiscardHandler)}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func show(t *testing.T, r *http01.Responder, answers ...command.HTTP01Answer) {
	t.Helper()
	if err := r.Show(t.Context(), answers, time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
}

func hide(t *testing.T, r *http01.Responder, answers ...command.HTTP01Answer) {
	t.Helper()
	if err := r.Hide(answers); err != nil {
		t.Fatal(err)
	}
}

// ask asks as a CA does; zero is that nobody listens.
func ask(t *testing.T, address, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return 0, ""
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

const wellKnown = "/.well-known/acme-challenge/"

func TestListener_AnswersOnlyWhatItShowsAndOnlyWhileThereIsSomething(t *testing.T) {
	r := listening(t)
	if status, _ := ask(t, r.Address, "/"); status != 0 {
		t.Error("it listens before there is anything to prove")
	}
	a, b := answer("a"), answer("b")
	show(t, r, a)
	show(t, r, b)
	for _, x := range []command.HTTP01Answer{a, b} {
		if status, text := ask(t, r.Address, wellKnown+x.Token); status != http.StatusOK || text != x.KeyAuthorization {
			t.Errorf("%d %q", status, text)
		}
	}
	for _, path := range []string{"/", wellKnown, wellKnown + answer("c").Token, "/" + a.Token} {
		if status, _ := ask(t, r.Address, path); status != http.StatusNotFound {
			t.Errorf("%s: %d", path, status)
		}
	}
	hide(t, r, a)
	if status, _ := ask(t, r.Address, wellKnown+a.Token); status != http.StatusNotFound {
		t.Errorf("after it was taken back: %d", status)
	}
	hide(t, r, b)
	hide(t, r, b)
	if status, _ := ask(t, r.Address, "/"); status != 0 {
		t.Error("it listens when there is nothing to prove any more")
	}
	show(t, r, a)
	if status, _ := ask(t, r.Address, wellKnown+a.Token); status != http.StatusOK {
		t.Errorf("once more: %d", status)
	}
}

func TestAnswer_GoesWhenItsTimeIsUp(t *testing.T) {
	r := listening(t)
	if err := r.Show(t.Context(), []command.HTTP01Answer{answer("a")}, time.Now().Add(20*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		if status, _ := ask(t, r.Address, "/"); status == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("it is shown for ever")
		}
	}
}

func TestResponder_ShowsNothingButAnswersOfTheRFC(t *testing.T) {
	root := t.TempDir()
	r := &http01.Responder{Webroot: root, Log: slog.New(slog.DiscardHandler)}
	good := answer("a")
	for name, bad := range map[string]command.HTTP01Answer{
		"a path":                    {Token: "../../../../etc/cron.d/x", KeyAuthorization: "../../../../etc/cron.d/x." + strings.Repeat("T", 43)},
		"a text":                    {Token: good.Token, KeyAuthorization: good.Token + ".<script>"},
		"another token's":           {Token: good.Token, KeyAuthorization: answer("b").KeyAuthorization},
		"a token that is too short": {Token: "x", KeyAuthorization: "x." + strings.Repeat("T", 43)},
	} {
		for _, answers := range [][]command.HTTP01Answer{{bad}, {good, bad}} {
			if err := r.Show(t.Context(), answers, time.Now().Add(time.Minute)); err == nil {
				t.Errorf("%s is shown", name)
			}
			if err := r.Hide(answers); err == nil {
				t.Errorf("%s is taken back", name)
			}
		}
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) > 0 {
		t.Errorf("%v in the folder, %v", entries, err)
	}
}

func TestResponder_OfAHostThatHasNotDecidedRefuses(t *testing.T) {
	r := &http01.Responder{Log: slog.New(slog.DiscardHandler)}
	if err := r.Show(t.Context(), []command.HTTP01Answer{answer("a")}, time.Now().Add(time.Minute)); !errors.Is(err, http01.ErrNotHere) {
		t.Errorf("got %v", err)
	}
}

func TestListener_SaysWhichSettingIsAtFault(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	r := &http01.Responder{Address: taken.Addr().String(), Log: slog.New(slog.DiscardHandler)}
	if err := r.Show(t.Context(), []command.HTTP01Answer{answer("a")}, time.Now().Add(time.Minute)); err == nil || !strings.Contains(err.Error(), "CERTCTL_AGENT_HTTP01_ADDRESS") {
		t.Errorf("got %v", err)
	}
}

func TestWebroot_HoldsTheAnswersForTheHostsServer(t *testing.T) {
	root := t.TempDir()
	r := &http01.Responder{Webroot: root, Log: slog.New(slog.DiscardHandler)}
	a, b := answer("a"), answer("b")
	show(t, r, a, b)
	file := filepath.Join(root, ".well-known", "acme-challenge", a.Token)
	text, err := os.ReadFile(file)
	if err != nil || string(text) != a.KeyAuthorization {
		t.Errorf("%q, %v", text, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o444 != 0o444 {
		t.Errorf("others cannot read it: %v, %v", info.Mode(), err)
	}
	hide(t, r, a)
	// Another run of the agent left it.
	hide(t, &http01.Responder{Webroot: root, Log: slog.New(slog.DiscardHandler)}, b)
	if entries, err := os.ReadDir(filepath.Dir(file)); err != nil || len(entries) > 0 {
		t.Errorf("%v left, %v", entries, err)
	}
	show(t, r, a)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(filepath.Dir(file)); err != nil || len(entries) > 0 {
		t.Errorf("%v left by an agent that has stopped, %v", entries, err)
	}
}

func TestWebroot_IsNeverLeft(t *testing.T) {
	root, elsewhere := t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(root, ".well-known"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Join(root, ".well-known", "acme-challenge")); err != nil {
		t.Fatal(err)
	}
	r := &http01.Responder{Webroot: root, Log: slog.New(slog.DiscardHandler)}
	if err := r.Show(t.Context(), []command.HTTP01Answer{answer("a")}, time.Now().Add(time.Minute)); err == nil {
		t.Error("it follows a link out of its folder")
	}
	if entries, err := os.ReadDir(elsewhere); err != nil || len(entries) > 0 {
		t.Errorf("%v elsewhere, %v", entries, err)
	}
}
