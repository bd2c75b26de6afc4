//go:build !demo

package main

// demo allows a repository on this machine, over http. A product has no such option.
const demo = false
