/* A public log, its cosigners, and a client under a rule of the log (docs/spec.md 22).
 *
 * A tree is a sequence of leaves of 5 bits each, so that "begins with" is exact. Each run has one story, to
 * limit the number of states:
 *
 *   LOSS     The log key or a quorum is lost. The attacker's root 2, which changes the cosigners, may be pending.
 *   FORK     The attacker has the log key, and asks honest cosigners (repo/witness) to sign any trees. They may be
 *            killed, and one of them consists of two processes. Three cosigners are honest; a fourth is not and signs
 *            everything. Three of four are a quorum, so any two quorums have an honest cosigner in common.
 *   RULE     The attacker also has the root quorum and the key of the standby log, and isolates one client
 *            (tuf/logrule.go, tuf/log.go, client/logged.go). Two cosigners are honest; a third is not, and dates its
 *            signatures as the attacker wants. All three are the quorum. The honest ones sign one tree: see FORK.
 *   WRITERS  Two publishers append, with one ledger and one storage (repo/tiles). Either may be killed between two
 *            calls of the storage, the ledger or the key, and starts again or not. Instead, the storage may be set
 *            back to a backup, or a party without the log key writes to it. Then the log may stop, but must not
 *            fork. Otherwise a third publisher, which is alone and is not killed, must succeed at the end.
 *
 * Each -D below switches off one rule; README.md describes the failure without it.
 */
#define WRITERS 1
#define FORK    2
#define RULE    3
#define LOSS    4

#ifndef TOTAL
#define TOTAL  3         /* WRITERS: batches that both publishers propose; each at most TRIES */
#endif
#define TRIES  2
#ifndef KILLS
#define KILLS  1         /* WRITERS: publishers that are killed */
#endif
#ifndef LEAVES
#define LEAVES 2         /* RULE: greatest size of the tree, at most 3 */
#endif
#ifndef END
#define END    3         /* RULE: last step of the clock */
#endif
#define NOTICE 2         /* the 72 hours, in steps of the clock */
#define AGE    1         /* greatest age of a proof, in steps of the clock */

/* ---- trees ---- */
#define SIZE(t)        ((t) == 0 -> 0 : ((t) < 32 -> 1 : ((t) < 1024 -> 2 : ((t) < 32768 -> 3 : ((t) < 1048576 -> 4 : 5)))))
#define LEAF(t, i)     (((t) >> (5*(i))) & 31)
#define WITH(t, leaf)  ((t) | ((leaf) << (5*SIZE(t))))
#define FIRST(t, n)    ((t) & ((1 << (5*(n))) - 1))
#define BEGINS(a, b)   ((a) == FIRST(b, SIZE(a)))          /* a is the beginning of b */
#define CONSISTENT(a, b) (BEGINS(a, b) || BEGINS(b, a))

byte story = 0;

/* ======== WRITERS ======== */
int  l_head = 0;                    /* the ledger: last tree of which the signature was permitted, */
byte l_batch = 0, l_base = 0;       /* and the last batch */
byte p_batch = 0, p_base = 0;       /* the file pending; batch 0: none, or a barrier */
int  checkpoint = 0;                /* the file */
int  file[6];                       /* tiles by size: their names carry their width */
int  made = 0;                      /* the largest tree that the key has signed */
int  cosigned = 0;                  /* the largest tree that the quorum has seen */
bool same_l[3], same_p[3], same_c[3];   /* unchanged since publisher p has read it: its swap succeeds */
bool kill[3];
bool restored = false;              /* the storage was set back or written to: the log may stop */
byte kills = 0, ended = 0, tries[3];

inline changed_l() { same_l[0] = false; same_l[1] = false; same_l[2] = false; same_l[p] = true }
inline changed_p() { same_p[0] = false; same_p[1] = false; same_p[2] = false; same_p[p] = true }
inline changed_c() { same_c[0] = false; same_c[1] = false; same_c[2] = false; same_c[p] = true }

/* batch numbers are unique: publisher, attempt, and the size after which the publisher decided on it */
#define BATCH(p, try, after)  (1 + (((after)*3 + (p))*2 + (try)))
#define AFTER(b)              (((b) - 1) / 6)
#define BY(b)                 ((((b) - 1) / 2) % 3)

inline forget() {
  after = 0; own = 0; want = 0; rb = 0; rbase = 0; pb = 0; pbase = 0; rhead = 0; ch = 0; to = 0; todo = false; bad = false;
  same_l[p] = false; same_p[p] = false; same_c[p] = false
}
/* the ledger records the batch */
inline record() {
  if
  :: same_l[p] -> l_batch = own; l_base = SIZE(ch); rb = own; rbase = l_base; changed_l()
  :: else -> own = 0; want = 0; goto again
  fi
}

proctype publisher(byte p) {
  byte after, own, want, rb, rbase, pb, pbase;
  int rhead, ch, to;
  bool todo, bad;
  if :: p == 2 -> ended == 2; if :: restored -> goto out :: else fi :: else fi;
start:
  {
    atomic {                                              /* Checkpoint: what the publisher decides upon */
      after = SIZE(checkpoint);
      if
      :: after > 0 && BY(LEAF(checkpoint, after - 1)) == p && after > SIZE(cosigned) -> to = checkpoint; goto cosign
      :: else
      fi
    }
again:
    atomic { rb = l_batch; rbase = l_base; rhead = l_head; same_l[p] = true };
    atomic { pb = p_batch; pbase = p_base; same_p[p] = true };
    atomic {
      ch = checkpoint; same_c[p] = true; todo = false;
#ifdef UNRECORDED
      rhead = ch;
#endif
      bad = SIZE(ch) > SIZE(rhead) || SIZE(ch) == SIZE(rhead) && ch != rhead;
      if
      :: pb == 0 || rb == pb && rbase != SIZE(ch)                     /* a barrier, or completed */
#ifdef ANY_PENDING
      :: pb != 0 && pbase == SIZE(ch) -> todo = true
      :: pb != 0 && rb != pb && pbase != SIZE(ch)
#else
      :: pb != 0 && rb == pb && rbase == SIZE(ch) -> todo = true
      :: pb != 0 && rb != pb -> bad = bad || pbase >= SIZE(ch)        /* not recorded */
#endif
      fi;
      bad = bad || SIZE(ch) < SIZE(rhead) && !todo;
      if
      :: bad ->
#ifndef NO_REREAD
         if :: !same_l[p] -> goto again :: else fi;
#endif
         assert(restored); goto out              /* ErrFork, as long as nothing changes */
      :: !bad && todo -> goto finish
      :: !bad && !todo && own != 0 && SIZE(ch) >= want -> to = FIRST(ch, want); goto cosign
      :: !bad && !todo && own != 0 && SIZE(ch) < want -> assert(restored); goto out
      :: else
      fi;
#ifndef NO_AFTER
      if :: SIZE(ch) != after -> forget(); goto start :: else fi;
#endif
      if :: tries[p] == TRIES || p < 2 && tries[0] + tries[1] == TOTAL -> goto out :: else fi
    };
#ifndef NO_BARRIER
    if
    :: rb != 0 && rbase == SIZE(ch) -> atomic { if :: same_p[p] -> p_batch = 0; p_base = 0; changed_p() :: else -> goto again fi }
    :: else
    fi;
#endif
    atomic { own = BATCH(p, tries[p], after); tries[p]++; want = SIZE(ch) + 1 };
#ifndef RECORD_LATE
    atomic { record() };
#endif
    atomic {
#ifdef BLIND
      if :: true
#else
      if :: same_p[p]
#endif
         -> p_batch = own; p_base = SIZE(ch); pb = own; pbase = p_base; changed_p()
      :: else -> own = 0; want = 0; goto again
      fi
    };
#ifdef RECORD_LATE
    atomic { record() };
#endif
finish:
    atomic {
      to = WITH(ch, pb);
      if
      :: SIZE(rhead) > SIZE(ch) && rhead != to || file[SIZE(to)] != 0 && file[SIZE(to)] != to -> assert(restored); goto out   /* ErrFork */
      :: else
      fi;
      file[SIZE(to)] = to
    };
#ifdef UNRECORDED
    rhead = to;
#else
    atomic { if :: rhead == to :: rhead != to && same_l[p] -> l_head = to; rhead = to; changed_l() :: else -> goto again fi };
#endif
    atomic {                                              /* the key signs */
      assert(CONSISTENT(to, made));
      assert(AFTER(LEAF(to, SIZE(to) - 1)) == SIZE(to) - 1);   /* the head follows those that its publisher knew */
      if :: SIZE(to) > SIZE(made) -> made = to :: else fi
    };
    atomic {
#ifdef CHECKPOINT_BLIND
      if :: true
#else
      if :: same_c[p]
#endif
         -> checkpoint = to; changed_c()
      :: else -> goto again
      fi;
      if :: pb != own -> goto again :: else fi
    };
cosign:
    atomic {
      assert(CONSISTENT(to, cosigned));                   /* a cosigner refuses the tree: ErrFork */
      if :: SIZE(to) > SIZE(cosigned) -> cosigned = to :: else fi;
      if
      :: p < 2 && tries[p] < TRIES -> forget(); goto start
      :: else -> goto out
      fi
    }
  } unless { kill[p] };
  atomic {
    kill[p] = false; forget();
    if :: goto start :: skip fi
  };
out:
  atomic {
    assert(p != 2 || restored || to != 0 && cosigned == to && checkpoint == to);   /* publishing continues after a crash */
    kill[p] = false; forget();
    ended++
  }
}
proctype killer() {
  byte i;
  do
  :: atomic { kills < KILLS && ended < 2 -> kills++; if :: kill[0] = true :: kill[1] = true fi }
  :: atomic {                                  /* from a backup of an earlier size, with or without its pending batch */
       kills == 0 && ended < 2 && checkpoint != 0 && tries[0] + tries[1] < TOTAL - 1 -> kills = KILLS; restored = true;
       select(i : 0 .. SIZE(checkpoint) - 1);
       if :: p_batch = LEAF(checkpoint, i); p_base = i :: p_batch = 0; p_base = 0 fi;
       checkpoint = FIRST(checkpoint, i);
       for (i : 1 .. 5) { if :: i > SIZE(checkpoint) -> file[i] = 0 :: else fi };
       i = 0; same_p[0] = false; same_p[1] = false; same_c[0] = false; same_c[1] = false
     }
  :: atomic {                                  /* a batch by a party that can write the storage and has no key */
       kills == 0 && ended < 2 && tries[0] + tries[1] < TOTAL - 1 -> kills = KILLS; restored = true; p_batch = 31; p_base = SIZE(checkpoint);
       same_p[0] = false; same_p[1] = false
     }
  :: ended >= 2 -> break
  od
}

/* ======== FORK ======== */
#ifdef NO_OVERLAP
#define QUORUM 1         /* honest cosigners in each quorum */
#else
#define QUORUM 2
#endif
short known[3];          /* by honest cosigner: the largest tree in its state; it may have signed all beginnings of it */
short escaped[3];       /* a tree that it has signed and that its state does not say: never, with all rules */
short slow = 0;           /* a request that the second process of cosigner 0 has compared with the state */
bool same_s = false;     /* the state is still the one that it compared */
short seen = 0;           /* the largest tree that a client, wherever it is, has accepted */
short mine = 0;           /* the tree that the isolated client has accepted last */

#define HAS(w, t) (known[w] != 0 && BEGINS(t, known[w]) || escaped[w] == t)

inline sign(w) {
#ifdef STATE_LATE
  escaped[w] = t;
  if :: known[w] = t; if :: w == 0 -> same_s = false :: else fi :: skip fi      /* killed after the answer */
#else
  known[w] = t; if :: w == 0 -> same_s = false :: else fi
#endif
}

proctype forger() {
  short t;
  byte w;
end_forger:
  do
  :: atomic {
       if :: t = 1 :: t = 2 :: t = 33 :: t = 34 :: t = 65 :: t = 66 fi;        /* all trees of one or two leaves */
       if
       /* a request */
       :: select(w : 0 .. 2);
          if
#ifdef NO_CONSISTENCY
          :: t != known[w] -> escaped[w] = known[w]; known[w] = t
#endif
          :: t != known[w] && BEGINS(known[w], t) -> sign(w)
          :: else
          fi
       :: slow == 0 && t != known[0] && BEGINS(known[0], t) -> slow = t; same_s = true
       :: slow != 0 ->
#ifdef NO_SWAP
          escaped[0] = known[0]; known[0] = slow;
#else
          if :: same_s -> known[0] = slow :: else fi;
#endif
          slow = 0; same_s = false
       /* a client */
       :: HAS(0, t) + HAS(1, t) + HAS(2, t) >= QUORUM ->
          assert(CONSISTENT(t, seen));                    /* all clients accept trees of one log that only grows */
          if :: SIZE(t) > SIZE(seen) -> seen = t :: else fi;
          if
#ifdef NO_PRIOR
          :: true ->
#else
          :: SIZE(t) > SIZE(mine) || t == mine ->
#endif
             assert(SIZE(t) >= SIZE(mine));               /* no client goes back */
             mine = t
          :: else
          fi
       fi;
       t = 0; w = 0
     }
  od
}

/* ======== RULE ======== */
/* leaves */
#define HEAD1  1         /* root 1, a snapshot */
#define HEAD1B 2         /* root 1, another snapshot */
#define ROOT2  3         /* the root that the attacker has signed with the stolen root quorum */
#define HEAD2  4         /* root 2, the attacker's snapshot */
/* what root 2 changes */
#define COSIGNERS 1      /* to the attacker's */
#define RECOVERY  2      /* to the attacker's */
#define BOTH      3
#define STANDBY   4      /* the standby becomes the log; nothing else */
#define MORE      5      /* and the cosigners become the attacker's */
#define NEITHER   6      /* other members of the charter */
/* what is in force */
#define PUBLIC    0
#define PRIVATE   1      /* the attacker's cosigners: content that only this client sees */
#define SUCCESSOR 2      /* the standby as the log */
#define WARN      3

byte now = 0;
short tree = HEAD1;       /* what honest cosigners sign; the attacker appends */
byte at[6];              /* by cosigner and size: time of its last signature + 1 */
byte shown = 0;          /* the first honest signature of a tree with ROOT2 + 1 */
byte proved = 0;         /* the first quorum for one + 1: the earliest "latest cosignature in the first proof" */
byte over[3];            /* by size: the first quorum for a larger tree + 1 */
bool named = false;      /* an honest cosigner has signed a tree with ROOT2 or HEAD2 */
bool standby = false;    /* the standby log has ROOT2, cosigned */
/* the client */
byte root = 0;           /* 0 under warn, 1 enforces, 2 the attacker's, 3 the parties' answer, with the rule of 1 */
byte change = 0;         /* what root 2 changes, decided when it is served */
byte force = WARN;
bool evil = false;       /* the recovery rule in force is the attacker's */
bool pending = false, reverted = false;

#define TIME(s)   (at[(s) - 1] < at[(s) + 2] -> at[(s) - 1] : at[(s) + 2])      /* quorum time of the tree of this size, + 1; 0: none */
#define HOLDS(s)  (LEAF(tree, 0) == ROOT2 || (s) > 1 && LEAF(tree, 1) == ROOT2 || (s) > 2 && LEAF(tree, 2) == ROOT2)
#define NAMES(s)  (HOLDS(s) || (s) > 1 && LEAF(tree, 1) == HEAD2 || (s) > 2 && LEAF(tree, 2) == HEAD2)

proctype clock() {
  do
  :: atomic { now < END -> now++ }
  :: now == END -> break
  od
}
/* the log key, in the attacker's hands, and the cosigners, which sign whatever continues the tree */
proctype owner() {
  byte w, s;
end_owner:
  do
  :: atomic { SIZE(tree) < LEAVES -> if :: tree = WITH(tree, HEAD1B) :: tree = WITH(tree, ROOT2) :: tree = WITH(tree, HEAD2) fi }
  :: atomic {
       s = SIZE(tree);
       if :: w = 0 :: w = 1 fi;
       at[w*3 + s - 1] = now + 1;
       if :: HOLDS(s) && shown == 0 -> shown = now + 1 :: else fi;
       if :: NAMES(s) -> named = true :: else fi;
       if
       :: TIME(s) != 0 ->
          if :: HOLDS(s) && proved == 0 -> proved = now + 1 :: else fi;
          if :: s > 1 && over[1] == 0 -> over[1] = now + 1 :: else fi;
          if :: s > 2 && over[2] == 0 -> over[2] = now + 1 :: else fi
       :: else
       fi;
       w = 0; s = 0
     }
  :: atomic { !standby -> standby = true; named = true; if :: shown == 0 -> shown = now + 1 :: else fi }
  od
}

/* what root 2 says comes into force */
inline enforce() {
  assert(!reverted);                                      /* the parties have taken it back */
  assert(change == STANDBY && standby || shown != 0 && now + 1 >= shown + NOTICE);   /* it was in public for 72 hours */
  if
  :: change == COSIGNERS || change == BOTH || change == MORE -> force = PRIVATE
  :: change == STANDBY -> force = SUCCESSOR
  :: else
  fi;
  if :: change == RECOVERY || change == BOTH -> evil = true :: else fi;
  pending = false
}
#ifdef BACK_DATED
#define FROM 1           /* the dishonest cosigner dates its first signature back, and the notice is counted from the quorum time */
#else
#define FROM proved
#endif
#ifdef ONE_PROOF
#define LATER(s) (HOLDS(s) && TIME(s) != 0)
#else
#define LATER(s) (HOLDS(s) && TIME(s) >= FROM + NOTICE)
#endif
#ifdef RECOVERY_OF_ANY
#define RECOVERS (evil || root == 2 && (change == RECOVERY || change == BOTH))
#else
#define RECOVERS evil
#endif

#ifdef NO_AGE
#define FRESH(s) (TIME(s) != 0)
#else
#define FRESH(s) (TIME(s) != 0 && now + 1 <= TIME(s) + AGE)
#endif
#ifdef HEAD_NO_ROOT
#define HEAD(leaf) (leaf != ROOT2)
#else
#define HEAD(leaf) (root == 1 && (leaf == HEAD1 || leaf == HEAD1B) || root == 2 && leaf == HEAD2)
#endif

proctype isolated() {
  byte s, i, leaf;
end_isolated:
  do
  /* ---- roots: they are never refused ---- */
  :: atomic {
       root == 0 -> root = 1;
#ifndef LATE_START
       force = PUBLIC                                     /* T2 */
#endif
     }
  :: atomic {
       root == 1 -> root = 2;
       if :: change = COSIGNERS :: change = RECOVERY :: change = BOTH :: change = STANDBY :: change = MORE :: change = NEITHER fi;
       pending = (change != NEITHER);
#ifdef ANY_ROOT
       enforce()
#endif
     }
  :: atomic {                                             /* the parties have seen it and take it back */
       root == 2 && shown != 0 -> root = 3;
       if
       :: force == PUBLIC && !evil -> reverted = pending;
#ifndef KEEP_CHANGE
          pending = false
#endif
       :: else
       fi
     }
  /* ---- the rule ---- */
  :: atomic { pending && change <= BOTH && proved != 0 && (LATER(1) || LATER(2) || LATER(3)) -> enforce() }      /* T3, two proofs */
#ifdef MORE_BY_STANDBY
  :: atomic { pending && (change == STANDBY || change == MORE) && standby -> enforce() }
#else
  :: atomic { pending && change == STANDBY && standby -> enforce() }                                          /* T3, the standby */
#endif
  :: atomic { RECOVERS && pending && (change == COSIGNERS || change == BOTH || change == MORE) -> change = COSIGNERS; enforce() }     /* T5 */
  :: atomic { RECOVERS && root == 2 && force != PRIVATE -> change = BOTH; enforce() }                            /* T4 */
  /* ---- content ---- */
  :: atomic {
       force == PUBLIC ->
       select(s : 1 .. SIZE(tree));
       i = s - 1;
#ifdef NOT_LAST
       select(i : 0 .. s - 1);
#endif
       leaf = LEAF(tree, i);
       if
       :: FRESH(s) && HEAD(leaf) ->
          assert(root < 2 || named);                      /* the root under which content is accepted is public */
          assert(i == LEAVES - 1 || over[i + 1] == 0 || now + 1 <= over[i + 1] + AGE);    /* and no other content has replaced it long ago */
       :: else
       fi;
       s = 0; i = 0; leaf = 0
     }
  :: atomic { force == WARN -> assert(root == 0) }        /* content without a proof */
  od
}

/* ======== LOSS ======== */
#define OLD   0          /* the log and the cosigners in force at first */
#define NEW   1          /* the standby log; the parties' next cosigners */
#define OTHER 2          /* the attacker's cosigners */

proctype loss() {
  bool dead[4];                                           /* log OLD, log NEW; cosigners OLD, NEW: a quorum of them */
  byte l, c, c2, l3, c3;                                  /* log and cosigners: in force; cosigners of root 2; both of root 3, the parties' */
  atomic {
    if :: c2 = OTHER :: c2 = OLD fi;                        /* an attack with the root quorum, or not: it stays pending */
    if
    :: l3 = NEW; dead[0] = true                           /* the log key is lost, or the attacker has forked the log */
    :: c3 = NEW; dead[2] = true                           /* two of three cosigners are lost */
    :: c3 = NEW                                           /* nothing is lost */
    fi
  };
#ifdef FROM_PREDECESSOR
#define SUCCEEDS (l3 == NEW && l == OLD && c3 == c2)
#else
#define SUCCEEDS (l3 == NEW && l == OLD && c3 == c)
#endif
  if
#ifndef NO_STANDBY
  :: atomic { SUCCEEDS && !dead[NEW] && !dead[2 + c] -> l = l3 }               /* T3: proven by the standby and the cosigners in force */
#endif
  :: atomic { l3 == l && !dead[l] && !dead[2 + c] -> c = c3 }                  /* T3: two proofs under the rule in force */
#ifndef NO_STATEMENT
  :: atomic { dead[2 + c] -> l = l3; c = c3 }                                  /* T5 */
#endif
  :: else
  fi;
  assert(l == l3 && c == c3 && !dead[l] && !dead[2 + c])  /* the next head is proven */
}

init {
  atomic {
    if
    :: story = LOSS; run loss()
    :: story = FORK; run forger()
    :: story = RULE; run clock(); run owner(); run isolated()
    :: story = WRITERS; run publisher(0); run publisher(1); run publisher(2); run killer()
    fi
  }
}
