package relocate

// Powers is the authority analysis of [Preflight].
var Powers = powers
