package tuftest

import "os"

// Long is set by VISUM_LONG=1: matrices of tests, of which otherwise a part runs,
// run whole, and what is repeated is repeated more often.
var Long = os.Getenv("VISUM_LONG") != ""
