package platform_test

import (
	"encoding/json"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/migrations"
	"github.com/certctl/certctl/services/deployment/internal/platform"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.M{M: m}) }

func TestKey_IsMadeOnceByReplicasThatStartTogether(t *testing.T) {
	db, sealer := pgtest.New(t, migrations.FS("deployment"), "deployment"), secret.New(secret.NewKey())
	keys := make([]*platform.Key, 8)
	var replicas sync.WaitGroup
	for i := range keys {
		replicas.Go(func() {
			var err error
			if keys[i], err = platform.Open(t.Context(), db, sealer); err != nil {
				t.Errorf("open: %v", err)
			}
		})
	}
	replicas.Wait()
	for _, k := range keys {
		if k == nil || k.Public() != keys[0].Public() {
			t.Fatal("replicas have different keys")
		}
	}
	signed, err := keys[0].Sign(command.AgentCommand{JobID: "job-d-1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var s command.Signed
	if err := json.Unmarshal(signed, &s); err != nil {
		t.Fatal(err)
	}
	if err := natsauth.VerifyCommand(keys[7].Public(), s.Payload, s.Signature); err != nil || s.KeyID != keys[0].Public() {
		t.Errorf("%v, %+v", err, s)
	}
}

func TestKey_CannotBeReadWithAnotherSealingKey(t *testing.T) {
	db := pgtest.New(t, migrations.FS("deployment"), "deployment")
	if _, err := platform.Open(t.Context(), db, secret.New(secret.NewKey())); err != nil {
		t.Fatal(err)
	}
	if _, err := platform.Open(t.Context(), db, secret.New(secret.NewKey())); err == nil {
		t.Error("the seed was unsealed with another key")
	}
}
