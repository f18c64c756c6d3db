package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"pratique.dev/pratique/internal/rules"
)

// Rules are the rules for repositories that hold.
type Rules struct {
	Source string      `json:"source"` // the document as it was set; "" if none was
	Rules  rules.Rules `json:"rules"`
	// Usage is what counts towards each of Rules.Quotas, in their order.
	Usage []rules.Usage `json:"usage"`
}

// Rules fetches the rules that hold.
func (c *Client) Rules(ctx context.Context) (Rules, error) {
	var r Rules
	err := c.get(ctx, PathRules, nil, &r)
	return r, err
}

// SetRules puts a document in the place of the rules that hold.
func (c *Client) SetRules(ctx context.Context, source []byte) (Rules, error) {
	req, err := c.request(ctx, http.MethodPut, PathRules, nil, bytes.NewReader(source))
	if err != nil {
		return Rules{}, err
	}
	req.Header.Set("Content-Type", "application/yaml")
	resp, err := c.do(req)
	if err != nil {
		return Rules{}, err
	}
	defer resp.Body.Close()
	var r Rules
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&r); err != nil {
		return Rules{}, fmt.Errorf("set rules: the answer is damaged: %w", err)
	}
	return r, nil
}
