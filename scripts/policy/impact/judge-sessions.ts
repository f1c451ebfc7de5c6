/** Judges whole sessions of a store by both revisions: what each thread does, and what it is given and gives. */
import type { Bundle } from "../../../gateway/policy/bundle.ts";
import type { PolicyData } from "../../../gateway/policy/data.ts";
import type { StoreLocation } from "../../../gateway/store/read-only.ts";
import type { Labeller } from "./catalog-labels.ts";
import { KnownAnalyses } from "./known-analyses.ts";
import { SessionLines } from "./recorded-lines.ts";
import { type TargetLabels, targetLabels } from "./relabel.ts";
import { type Change, type Observer, type Revisions, SessionReplay } from "./replay.ts";
import { JudgingRevision } from "./revision.ts";
import type { StoreReader } from "./store-reader.ts";
import { addChange, addDrift, addUnreadable, emptyTally, type Tally } from "./tally.ts";

/** Plain data: it goes to each thread. */
export interface Setup {
  readonly base: Bundle;
  readonly head: Bundle;
  /** Of other revisions that recordings may name: their data by digest, for the labels then. */
  readonly pastData: Readonly<Record<string, PolicyData>>;
  /** Files by target's name. */
  readonly catalogs: Readonly<Record<string, string>>;
  readonly store: StoreLocation;
  readonly sinceMs: number;
  /** Whether each change is wanted, or only their tally. */
  readonly eachChange: boolean;
}

async function revisionsOf(setup: Setup): Promise<Revisions> {
  const labellers = await labellersOf(setup.catalogs);
  const base = new JudgingRevision(setup.base, labellers);
  const head = new JudgingRevision(setup.head, labellers);
  const past = new Map(Object.entries(setup.pastData));
  const known = new Map<string, TargetLabels>();
  return {
    base,
    head,
    labelsOf(digest, target) {
      const own = [base, head].find((revision) => revision.digest === digest);
      if (own !== undefined) return own.labelsOf(target);
      const data = past.get(digest);
      if (data === undefined) return undefined;
      const key = `${digest}\n${target}`;
      let labels = known.get(key);
      if (labels === undefined) {
        labels = targetLabels(data, target);
        known.set(key, labels);
      }
      return labels;
    },
  };
}

/** The analyser that it takes is loaded only where it is needed: a thread's start is a part of every comparison. */
async function labellersOf(catalogs: Setup["catalogs"]): Promise<ReadonlyMap<string, Labeller>> {
  const files = Object.entries(catalogs);
  if (files.length === 0) return new Map();
  const { labellerOf } = await import("./catalog-labels.ts");
  return new Map(files.map(([target, file]) => [target, labellerOf(file)]));
}

/** Told of progress and, where they are wanted, of changes, a few at a time. */
export interface Report {
  progress(commands: number): void;
  changes(changes: readonly Change[]): void;
}

const changesAtOnce = 500;
const progressEvery = 2_000;

export class SessionsJudge {
  readonly #setup: Setup;
  readonly #store: StoreReader;
  readonly #report: Report;
  readonly #revisions: Revisions;
  readonly #known = new KnownAnalyses();
  #changes: Change[] = [];
  #unreported = 0;

  private constructor(setup: Setup, store: StoreReader, report: Report, revisions: Revisions) {
    this.#setup = setup;
    this.#store = store;
    this.#report = report;
    this.#revisions = revisions;
  }

  static async start(setup: Setup, store: StoreReader, report: Report): Promise<SessionsJudge> {
    return new SessionsJudge(setup, store, report, await revisionsOf(setup));
  }

  /** Several, since a query for each costs more than what it gives. */
  async judge(ids: readonly string[]): Promise<Tally> {
    const tally = emptyTally();
    const found = await this.#store.find(ids);
    const observer = this.#observer(tally);
    const reading = new Map<string, SessionLines>();
    for (const id of ids) {
      const session = found.get(id);
      if (session === undefined) {
        addUnreadable(tally, id, "the session is not in the store");
        continue;
      }
      const replay = new SessionReplay(this.#revisions, this.#known, observer, this.#setup.sinceMs);
      reading.set(id, new SessionLines(session, (line) => replay.take(line)));
    }
    let last: string | undefined;
    const end = (id: string) => {
      const state = reading.get(id)?.end();
      reading.delete(id);
      if (state === undefined) return;
      tally.sessions += 1;
      if (state.open) tally.openSessions += 1;
      if (state.problem !== undefined) addUnreadable(tally, id, state.problem);
    };
    for await (const chunk of this.#store.chunks([...reading.keys()])) {
      if (last !== undefined && last !== chunk.session) end(last);
      last = chunk.session;
      reading.get(last)?.add(chunk);
    }
    for (const id of [...reading.keys()]) end(id);
    this.#flush();
    return tally;
  }

  #observer(tally: Tally): Observer {
    return {
      judged: () => {
        tally.commands += 1;
        this.#unreported += 1;
        if (this.#unreported >= progressEvery) this.#flush();
      },
      changed: (change) => {
        addChange(tally, change);
        if (!this.#setup.eachChange) return;
        this.#changes.push(change);
        if (this.#changes.length >= changesAtOnce) this.#flush();
      },
      drifted: (drift) => addDrift(tally, drift),
      reproduced: () => {
        tally.reproduced += 1;
      },
      labelsAssumed: () => {
        tally.labelsAssumed += 1;
      },
      paramsCut: () => {
        tally.paramsCut += 1;
      },
      unjudged: (session, command, why) => {
        tally.unjudged += 1;
        addUnreadable(tally, session, `command ${command}: ${why}`);
      },
    };
  }

  #flush(): void {
    if (this.#unreported > 0) this.#report.progress(this.#unreported);
    this.#unreported = 0;
    if (this.#changes.length > 0) this.#report.changes(this.#changes);
    this.#changes = [];
  }
}
