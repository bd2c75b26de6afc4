package client

// ConfigDir tells tests where a client keeps its state.
func ConfigDir(c *Client) string { return c.cfg.Dir }
