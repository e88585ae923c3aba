package install

import (
	"encoding/json"
	"fmt"

	"github.com/certctl/certctl/services/agent/internal/target"
)

// phase is the direction of an installation.
type phase string

const (
	staging   phase = "staging"
	forward   phase = "installing"
	backwards phase = "restoring"
)

// manifest is what is saved: enough to clear away, to go on and to go back.
type manifest struct {
	Phase phase `json:"phase"`
	// Tag is in the names of everything that lies beside the files.
	Tag   string   `json:"tag"`
	Files []record `json:"files"`
	// Reason is why the old files are put back.
	Reason string `json:"reason,omitempty"`
}

func (i *installation) save(at phase, reason string) error {
	m := manifest{Phase: at, Tag: i.tag, Reason: reason}
	for _, e := range i.entries {
		m.Files = append(m.Files, e.was)
	}
	text, err := json.Marshal(m)
	if err == nil {
		err = i.progress.Save(text)
	}
	if err != nil {
		return fmt.Errorf("remember where the installation stands: %w", err)
	}
	return nil
}

func load(p target.Progress) (manifest, error) {
	var m manifest
	text := p.Load()
	if len(text) == 0 {
		return m, nil
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("read where the installation stands: %w", err)
	}
	return m, nil
}
