package registry

import "context"

// Try opens the CA of an issuer that may issue anew, as it is configured, and has nothing signed. Its error says what is
// wrong.
func (r *Registry) Try(ctx context.Context, id string) error {
	// Refuses what is not there, or switched off.
	if _, err := r.Issuer(ctx, id); err != nil {
		return err
	}
	row, err := r.row(ctx, id)
	if err != nil {
		return err
	}
	_, err = r.openNoting(ctx, row)
	return err
}
