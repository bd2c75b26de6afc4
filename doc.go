// Package visum is documentation only; see README.md.
package visum
