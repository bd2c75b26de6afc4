//go:build demo

package main

// demo is true: the quickstart serves the repository on loopback.
const demo = true
