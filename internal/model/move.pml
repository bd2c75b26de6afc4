/* The client during a move, with a compromised old host.
 *
 * Honest roots                              epoch  content        roots
 *   R0  before                                0    A              A Z
 *   R1  announce: B from a later day on       0    A, then B      A B Z
 *   R2  cut over: new root and online keys    1    B, A (legacy)  B A Z, A until the sunset
 *   R3  A is retired                          1    B              B Z
 * The pin lists A and Z, in one story B too, last. Three operators run A, B and Z. The operator of A
 * also runs a second host, which behaves as A.
 *
 * Content 1 and 2 has epoch 0, content 3 has epoch 1, whose floor is 3.
 * Content 1 expires before R1 is signed.
 *
 * The attacker controls A from some moment on, and has all old vendor root keys (so they can fork
 * after R0 and R1, without the review centre) and the online keys of epoch 0 (so they can sign any
 * content of it, with any version). B and Z are honest, but each may fail MAXFAIL consecutive
 * requests; in one story Z is frozen together with A.
 *
 * Between two cycles the process may restart, its roots may get lost (roots/, not state.json), and
 * its clock may be set back.
 *
 * Each story adds one of these events, or another order of locations.
 *
 * Each -D below switches off one rule; README.md describes the failure without it.
 */
#ifndef MAXFAIL
#define MAXFAIL 1
#endif
#ifndef BOUND
#define BOUND (2*(MAXFAIL + 1))   /* greatest number of cycles with a root check (L2): the two others take turns */
#endif
#define A 0
#define B 1
#define Z 2
#define TIP 3
#define CMAX 3
#define CAP 2            /* new roots that one cycle follows */
#define EVERY 1          /* cycles between root checks */

/* ---- the environment ---- */
byte pub = 0;            /* newest honest root */
byte cpub = 1;           /* newest honest content */
byte story = 9;          /* further events: one in each run, to limit the number of states */
bool compromised = false;
byte amode = 0;          /* A since its compromise: 1 frozen 2 unreachable 3 forks 4 forged content 5 garbage */
byte froz = 0, cfroz = 1;
bool zfrozen = false;    /* Z is frozen at the same state as A */
bool sunset = false;     /* use_until of A in R2 has passed */
bool aged = false;       /* R0, R1 and R2 have expired */
bool back = false;       /* the client's clock is set back to before R1 was signed */
bool flip = false;       /* the order of A and B */
bool slip = false;       /* B serves content 2 with signatures of epoch 1, by mistake */
byte fail[3];            /* consecutive failed fetches */

/* ---- the client, on disk ---- */
byte trusted = 0;        /* stored roots */
byte seen = 0;           /* state.json: highest root accepted */
byte cver = 0, cep = 0;  /* last accepted content, its epoch */
bool cevil = false;
byte floor_ = 0;         /* version floor under the online keys of epoch cep */
byte last = A;           /* of the two after the first, the one that was asked last */

/* ---- in memory ---- */
bool due = true;         /* a root check is due */
byte since = 0;
bool forked = false;
byte late = 0;
/* ---- of one cycle ---- */
bool bad[3], down[3], drawn[3];
byte turn = 9, y;
bool got;
byte nones, shown, steps;   /* nones: operators that reported no next root, one bit each */
bool answered, partial, all, up, yes, ok_;
byte res, want, votes, i, x, v, ep;

#define expired(r)  ((r) < TIP && aged && (!back || (r) > 1))
/* With the clock set back, the time is the signed_at of the newest trusted root. */
#ifdef NO_KNOWN_TIME
#define outdated(c) ((c) == 1 && !back && pub >= 1)
#else
#define outdated(c) ((c) == 1 && (!back && pub >= 1 || trusted >= 1))
#endif
#define over        (sunset && !back)

/* may the client contact x under the root it trusts? */
inline usable(x_) {
  yes = true;
#ifndef NO_RETIRED
  if :: (x_ == A && trusted >= 3) -> yes = false :: else fi;
#endif
#ifndef NO_UNTIL
  if :: (x_ == A && trusted == 2 && over) -> yes = false :: else fi;
#endif
  if :: (x_ == B && trusted < 1 && story != 4) -> yes = false :: else fi;
#ifdef NO_EARLY
  if :: (x_ == B && trusted == 1) -> yes = false :: else fi;   /* its use_from has not come */
#endif
}
/* the i-th location to ask */
inline nth() {
  if
  :: i > 0 && story == 4 && trusted < 1 -> x = 3 - i
  :: i == 2 && (story != 4 || trusted > 0) -> x = Z
  :: i == 1 && (story != 4 || trusted > 0) && trusted < 2 -> x = B
  :: i == 0 && trusted < 2 -> x = A
  :: i < 2 && trusted >= 2 -> x = (flip -> i : 1 - i)
  fi
}
/* the i-th location to ask in a root check: the two after the first take turns */
inline pick() {
  nth();
#ifndef NO_TURN
  if
  :: want == 2 && i > 0 ->
     y = x; i = 3 - i; nth(); i = 3 - i;      /* y: the i-th, x: the other of the two */
     if
     :: i == 1 && y == last || i == 2 && x == last
     :: else -> x = y
     fi
  :: else
  fi
#endif
}
/* is x reachable in this cycle? Decided at the first request. */
inline draw(x_) {
  if
  :: x_ != A && !drawn[x_] && !down[x_] ->
     drawn[x_] = true;
     if
     :: fail[x_] < MAXFAIL -> fail[x_]++; down[x_] = true
     :: fail[x_] = 0
     fi
  :: else
  fi
}
inline reach(x_) {
  draw(x_);
  assert(!(x_ == A && (trusted >= 3 || trusted == 2 && over)));           /* S4 */
  up = (x_ == A -> !(compromised && amode == 2) : !down[x_])
}
/* res: 0 none, 1 the honest next root, 2 a fork, 3 garbage, 4 no answer */
inline askroot() {
  reach(x);
  if
  :: !up -> res = 4
  :: up && (x == B || x == Z && !zfrozen || x == A && !compromised) -> res = (pub > trusted -> 1 : 0)
  :: up && x == Z && zfrozen -> res = (froz > trusted -> 1 : 0)
  :: up && x == A && compromised ->
     if
     :: amode == 3 && trusted <= 1 -> res = 2
     :: amode == 5 -> res = 3
     :: else -> res = (froz > trusted -> 1 : 0)
     fi
  fi
}
/* one pass over the locations: follows roots as far as one of them serves the next */
inline roots() {
  i = 0; nones = 0; votes = 0;
  do
  :: i < 3 && votes < want && !partial ->
     pick(); usable(x); i++;
     if
     :: yes && !bad[x] ->
        if :: want == 2 && i == 2 -> turn = x :: else fi;
        askroot();
        shown = 0;
        if
        :: res == 1 ->
           answered = true;
           shown = (x == A && compromised || x == Z && zfrozen -> froz : pub);     /* newest root of x */
           trusted++; steps++; i = 0; nones = 0; votes = 0;
           if :: trusted > seen -> seen = trusted :: else fi;
#ifdef EXPIRY_STOP
           if :: expired(trusted) -> partial = true :: else fi;
#endif
           if :: steps == CAP -> partial = true :: else fi
        :: res == 0 -> answered = true; nones = nones | (1 << x);
#ifdef COUNT_PLACES
           if :: x == A && votes < want -> votes++ :: else fi;     /* the second host of A's operator */
#endif
           votes++
        :: res == 2 -> answered = true;
#ifdef NO_PARTY
           forked = true;
#endif
           bad[x] = true;
#ifdef ABORT_ON_BAD
           break
#endif
        :: res == 3 -> answered = true; bad[x] = true;
#ifdef ABORT_ON_BAD
           break
#endif
        :: else
        fi
     :: else
     fi
  :: else -> break
  od
}

/* the content of the locations, in order */
inline content() {
  ok_ = answered;
#ifndef PARTIAL_OK
  if :: partial -> ok_ = false :: else fi;
#endif
#ifndef NO_BEHIND
  if :: trusted < seen -> ok_ = false :: else fi;
#endif
#ifndef NO_STALE
  if :: expired(trusted) -> ok_ = false :: else fi;
#endif
  /* new online keys: content trusted under the old ones is no floor */
#ifndef KEEP_FLOORS
  if :: trusted >= 2 && cep == 0 -> floor_ = 0 :: else fi;
#endif
  i = 0;
  do
  :: ok_ && i < 2 ->
     nth(); usable(x); i++;
     if
     :: yes && !(x == A && trusted >= 3) ->
        reach(x);
        if
        :: up ->
           v = cpub; ep = (cpub >= 3 -> 1 : 0); all = false;               /* all: forged */
           if
           :: x == A && compromised && amode == 4 -> all = true; ep = 0; if :: v = 1 :: v = 2 :: v = CMAX + 1 fi
           :: x == A && compromised && amode != 4 -> v = cfroz; ep = (v >= 3 -> 1 : 0)
           :: x == B && slip && cpub == 3 -> if :: v = 2 :: skip fi
           :: else
           fi;
           yes = !outdated(v);
#ifdef OVERLAP
           yes = yes && (ep == 0 || trusted >= 2);
#else
           yes = yes && (ep == (trusted >= 2 -> 1 : 0));
#endif
           yes = yes && v >= floor_;
#ifndef NO_FLOOR
           yes = yes && (trusted < 2 || v >= 3);
#endif
           if
           :: yes ->
              assert(!(all && trusted >= 2));                               /* S3 */
              assert(!(ep == cep && v < cver));                             /* S5 */
              assert(!(ep < cep));
              assert(!(ep == 1 && v < 3));
              assert(!(shown > trusted));                                   /* S12 */
              assert(!(trusted < TIP && aged && !back));
              assert(!(v == 1 && trusted >= 1));                            /* S13 */
              assert(trusted >= seen);                                      /* S2 */
              cver = v; cep = ep; cevil = all; floor_ = v; got = true;
              break
           :: else -> due = true
           fi
        :: else -> due = true
        fi
     :: else
     fi
  :: else -> break
  od;
}

active proctype operator() {
  atomic { cpub = 2 };
  atomic { pub = 1 };
  atomic { pub = 2; cpub = 3 };
  atomic { sunset = true };
  atomic { pub = 3 }
}
active proctype years() { atomic { pub >= 2 && (story == 0 || story >= 4) -> aged = true } }
active proctype malice() {
  if
  :: atomic { true -> compromised = true; froz = pub; cfroz = cpub; if :: amode = 1 :: amode = 2 :: amode = 3 :: amode = 4 :: amode = 5 fi }
     if :: atomic { story == 4 && froz < 3 -> zfrozen = true } :: skip fi
  :: skip
  fi
}
active proctype machine() {
  if
  :: atomic { story == 1 && trusted > 0 -> trusted = 0; due = true; late = 0 }
  :: atomic { story == 2 -> back = true } -> atomic { back = false }
  :: skip
  fi
}

active proctype client() {
  atomic {
#ifdef STORY
    story = STORY;
#else
    if :: story = 0 :: story = 1 :: story = 2 :: story = 3 :: story = 4 :: story = 5 :: story = 6 fi;
#endif
    slip = (story == 3); flip = (story == 5)
  };
end_loop:
  do
  :: /* ---- roots ---- */
     atomic {
       if :: due = true :: skip fi;      /* a restart */
       if :: since >= EVERY -> due = true :: else fi;
#ifdef FORGET
       if :: trusted = 0 :: skip fi;     /* a restart from the pin's root */
       seen = trusted;
#endif
       if :: story == 6 && trusted >= 1 -> down[Z] = true :: else fi;  /* for ever */
#ifdef NO_PROBE
       want = 1;
#else
       want = (due -> 2 : 1);
#endif
       if
       :: due && pub == TIP && trusted < TIP && (story == 5 || story == 6 && trusted >= 1 || zfrozen) -> late++; assert(late <= BOUND)
       :: else
       fi;
       roots();
#ifndef NO_EVERYONE
       if :: !partial && (expired(trusted) || trusted < seen) -> want = 9; roots() :: else fi;
#endif
       /* settled: two operators have answered */
       if
       :: nones == 3 || nones >= 5 -> due = false; since = 0
       :: else -> if :: want > 1 -> due = true :: since < EVERY -> since++ :: else fi
       fi;
       if :: trusted == TIP -> late = 0 :: else fi;
       assert(!forked);                                                         /* S1 */
       /* ---- content ---- */
       content();
#ifndef NO_SEARCH
       /* no valid content: every location is asked, and one with the next root is tried again */
       if
       :: ok_ && !got -> want = 9; y = trusted; roots(); if :: trusted != y -> content() :: else fi
       :: else
       fi;
#endif
       /* L1: no cycle ends without content while an honest, reachable, listed location has the next root */
       if
       :: !got && !partial ->
          usable(B); assert(!(yes && !down[B] && pub > trusted));
          usable(Z); assert(!(yes && !down[Z] && !zfrozen && pub > trusted))
       :: else
       fi;
       if :: turn != 9 -> last = turn :: else fi;
       if :: partial && zfrozen -> late = 0 :: else fi;     /* the bound holds for the roots that one cycle follows */
       if :: !ok_ -> due = true :: else fi;
       assert(!(trusted == TIP && cpub == CMAX && !down[B] && !partial && story != 3) || cver == CMAX && !cevil);   /* L1 */
       bad[A] = false; bad[B] = false; bad[Z] = false; down[B] = false; down[Z] = false; drawn[B] = false; drawn[Z] = false;
       turn = 9; y = 0; got = false;
       i = 0; x = 0; v = 0; ep = 0; res = 0; votes = 0; nones = 0; shown = 0; steps = 0; want = 0;
       up = false; yes = false; all = false; answered = false; partial = false; ok_ = false
     }
  od
}
