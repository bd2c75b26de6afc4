package repo_test

// The memory storage lists, removes and streams. Its files have no modification time.
