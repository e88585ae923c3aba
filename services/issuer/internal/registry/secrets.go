package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/certctl/certctl/libs/fault"
)

// hidden stands for what is not shown: in answers, in events, and in the config as it is stored.
const hidden = "(secret)"

// Keeper is a Kind with settings that are secret. It reads them in the config that it is handed, and returns them in the
// one that it makes, like any other; the registry seals them and lets nobody else see them.
type Keeper interface {
	Kind
	// Secrets names these settings. Their values are strings.
	Secrets() []string
}

func secrets(k Kind) []string {
	if keeper, ok := k.(Keeper); ok {
		return keeper.Secrets()
	}
	return nil
}

// binding ties sealed settings to their issuer, so that they cannot be moved to another.
func binding(issuerID string) []byte { return []byte("issuer settings\x00" + issuerID) }

// whole returns a config as its kind reads it, with what is secret.
func (r *Registry) whole(i Issuer) (map[string]any, error) {
	if g, ok := r.settings.Given[i.ID]; ok && g.Type == i.Type {
		return maps.Clone(g.Config), nil
	}
	config := maps.Clone(i.Config)
	if config == nil {
		config = map[string]any{}
	}
	kept, err := r.unseal(i)
	if err != nil {
		return nil, err
	}
	for _, setting := range secrets(r.kinds[i.Type]) {
		if config[setting] != hidden {
			continue
		}
		// What came from the environment once, and does no more, is missing.
		delete(config, setting)
		if v, ok := kept[setting]; ok {
			config[setting] = v
		}
	}
	return config, nil
}

func (r *Registry) unseal(i Issuer) (map[string]any, error) {
	if i.Sealed == nil {
		return nil, nil
	}
	if r.settings.Sealer == nil {
		return nil, errNoSealer
	}
	plain, err := r.settings.Sealer.Unseal(i.Sealed, binding(i.ID))
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "the secrets of issuer %s cannot be opened: they were sealed with another sealing key, or are damaged", i.ID)
	}
	var kept map[string]any
	if err := json.Unmarshal(plain, &kept); err != nil {
		return nil, fmt.Errorf("read the secrets of issuer %s: %w", i.ID, err)
	}
	return kept, nil
}

var errNoSealer = fault.New(fault.Unavailable, "secrets of issuers need a sealing key; set CERTCTL_SEALING_KEY_FILE")

// keep puts a whole config into an issuer: what is secret sealed, the rest in the clear.
func (r *Registry) keep(i *Issuer, config map[string]any) error {
	kept := map[string]any{}
	for _, setting := range secrets(r.kinds[i.Type]) {
		if v, ok := config[setting]; ok {
			kept[setting] = v
		}
	}
	i.Config, i.Sealed = r.shown(i.Type, config), nil
	if len(kept) == 0 {
		return nil
	}
	if r.settings.Sealer == nil {
		return errNoSealer
	}
	plain, err := json.Marshal(kept)
	if err != nil {
		return fmt.Errorf("encode the secrets of issuer %s: %w", i.ID, err)
	}
	i.Sealed, err = r.settings.Sealer.Seal(plain, binding(i.ID))
	return err
}

// shown returns a config without what is secret in it.
func (r *Registry) shown(kind string, config map[string]any) map[string]any {
	config = maps.Clone(config)
	for _, setting := range secrets(r.kinds[kind]) {
		if _, ok := config[setting]; ok {
			config[setting] = hidden
		}
	}
	return config
}

// changedSecrets are the secrets that have another value after a change.
func changedSecrets(k Kind, before, after map[string]any) []string {
	return slices.DeleteFunc(slices.Clone(secrets(k)), func(setting string) bool {
		is, has := after[setting]
		return !has || reflect.DeepEqual(before[setting], is)
	})
}

// withoutPlaceholders leaves out of an update what a client sends that has read the config and changes something else.
func withoutPlaceholders(k Kind, update map[string]any) map[string]any {
	update = maps.Clone(update)
	for _, setting := range secrets(k) {
		if update[setting] == hidden {
			delete(update, setting)
		}
	}
	return update
}

// checkPlaceholders refuses a new issuer whose secrets are copied from what is shown of another.
func checkPlaceholders(k Kind, config map[string]any) error {
	var bad []fault.Field
	for _, setting := range secrets(k) {
		if config[setting] == hidden {
			bad = append(bad, fault.Field{Name: "config." + setting, Reason: "give its value; " + hidden + " only stands for it"})
		}
	}
	if len(bad) > 0 {
		return fault.InvalidFields(bad...)
	}
	return nil
}
