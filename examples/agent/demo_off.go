//go:build !demo

package main

// demo lets the repository be on this machine, over http. A product has no such switch.
const demo = false
