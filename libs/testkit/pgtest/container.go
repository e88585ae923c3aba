package pgtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"

	"github.com/certctl/certctl/libs/internal/scratch"
)

const (
	image = "postgres:16-alpine"
	port  = "5432/tcp"
)

var containers struct {
	mu     sync.Mutex
	server *scratch.Server
}

// container returns the Postgres of this process's container, and starts it if need be. testcontainers removes it
// after the process has ended.
func container(ctx context.Context) (scratch.Server, error) {
	containers.mu.Lock()
	defer containers.mu.Unlock()
	if containers.server != nil {
		return *containers.server, nil
	}
	password := rand.Text()
	c, err := testcontainers.GenericContainer(context.WithoutCancel(ctx), testcontainers.GenericContainerRequest{
		ContainerRequest: testcontainers.ContainerRequest{
			Image:        image,
			ExposedPorts: []string{port},
			Env:          map[string]string{"POSTGRES_PASSWORD": password},
			Cmd:          []string{"postgres", "-c", "fsync=off", "-c", "max_connections=200"},
			// The image starts the server once to set it up and then for good.
			WaitingFor: wait.ForLog("database system is ready to accept connections").
				WithOccurrence(2).WithStartupTimeout(time.Minute),
		},
		Started: true,
	})
	if err != nil {
		return scratch.Server{}, fmt.Errorf("start container %s: %w", image, err)
	}
	address, err := c.PortEndpoint(ctx, port, "")
	if err != nil {
		return scratch.Server{}, fmt.Errorf("address of container: %w", err)
	}
	containers.server = &scratch.Server{AdminURL: "postgres://postgres:" + password + "@" + address + "/postgres"}
	return *containers.server, nil
}
