//go:build demo

package main

// demo: the quickstart serves the repository on loopback.
const demo = true
