package oci

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// shape is what part of a manifest an object is; it says which of its keys have a meaning.
type shape int

const (
	shapeOther shape = iota // annotations, extensions: keys are the author's
	shapeDocument
	shapeDescriptor
	shapePlatform
)

// fields are the keys of each shape and the shape of what stands under them.
var fields = map[shape]map[string]shape{
	shapeDocument: {"schemaVersion": 0, "mediaType": 0, "artifactType": 0, "config": shapeDescriptor, "layers": shapeDescriptor,
		"manifests": shapeDescriptor, "fsLayers": 0, "subject": shapeDescriptor, "annotations": 0},
	shapeDescriptor: {"mediaType": 0, "digest": 0, "size": 0, "urls": 0, "annotations": 0, "data": 0, "platform": shapePlatform, "artifactType": 0},
	shapePlatform:   {"architecture": 0, "os": 0, "os.version": 0, "os.features": 0, "variant": 0},
}

// frame is an object or array that is being read.
type frame struct {
	shape  shape
	array  bool
	keys   map[string]bool
	key    string // read last, whose value comes next
	hasKey bool
}

// checkKeys refuses a document that programs could read differently: one with a key
// twice, of which some take the first and some the last, or with a field's name in
// other letters, which Go's decoder takes for the field and others do not. Such a
// document could show one set of layers to who examines and another to who runs it.
// raw is valid JSON.
func checkKeys(raw []byte) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber() // numbers of any size
	var stack []frame
	for {
		t, err := dec.Token()
		if err != nil {
			return err
		}
		var top *frame
		if len(stack) > 0 {
			top = &stack[len(stack)-1]
		}
		switch v := t.(type) {
		case json.Delim:
			if v == '}' || v == ']' {
				stack = stack[:len(stack)-1]
				if len(stack) == 0 {
					return nil
				}
				stack[len(stack)-1].hasKey = false
				continue
			}
			stack = append(stack, top.child(v == '['))
			continue
		case string:
			if top != nil && !top.array && !top.hasKey {
				if err := top.take(v); err != nil {
					return err
				}
				continue
			}
		}
		if top == nil {
			return nil // a document that is no object; others refuse it
		}
		top.hasKey = false
	}
}

// child is the frame of the object or array that begins under f.
func (f *frame) child(array bool) frame {
	c := frame{shape: shapeDocument, array: array}
	switch {
	case f == nil:
	case f.array:
		c.shape = f.shape
	default:
		c.shape = fields[f.shape][f.key]
	}
	if !array {
		c.keys = map[string]bool{}
	}
	return c
}

// take reads a key.
func (f *frame) take(key string) error {
	if f.keys[key] {
		return fmt.Errorf("the key %.100q stands there twice", key)
	}
	if known := fields[f.shape]; known != nil {
		if _, ok := known[key]; !ok {
			for _, name := range sortedKeys(known) {
				if strings.EqualFold(name, key) {
					return fmt.Errorf("the key %.100q is %q in other letters", key, name)
				}
			}
		}
	}
	f.keys[key], f.key, f.hasKey = true, key, true
	return nil
}

func sortedKeys(m map[string]shape) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
