package catalog_test

import (
	"os"
	"testing"

	"pratique.dev/pratique/internal/catalog/catalogtest"
)

func TestMain(m *testing.M) {
	os.Exit(catalogtest.Main(m))
}
