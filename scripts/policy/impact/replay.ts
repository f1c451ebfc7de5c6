/** Re-judges one recorded session, line by line, by both revisions. */
import { limits } from "../../../gateway/limits.ts";
import type { Decision } from "../../../gateway/policy/decision.ts";
import type { CommandAnalysis, SessionContext } from "../../../gateway/policy/input.ts";
import type { SessionJudge } from "../../../gateway/policy/policy.ts";
import type { CommandRest, SessionBase } from "../../../gateway/policy/visible-input.ts";
import type { Intent, RecordedEvent, SessionOpened } from "../../../gateway/recording/events.ts";
import { digestOf } from "../../../gateway/session/command.ts";
import { type ChangeKind, changesBetween, type KindOfChange } from "./changes.ts";
import type { KnownAnalyses } from "./known-analyses.ts";
import type { TargetLabels } from "./relabel.ts";
import type { JudgingRevision } from "./revision.ts";

export interface Revisions {
  readonly base: JudgingRevision;
  readonly head: JudgingRevision;
  /** Of any revision whose data is at hand; undefined for others. */
  labelsOf(digest: string, target: string): TargetLabels | undefined;
}

/** A session's opening (command 0) or one of its commands, with what became of it. */
export interface Change {
  readonly session: string;
  readonly command: number;
  readonly at: number;
  readonly who: string;
  readonly agent: boolean;
  readonly target: string;
  /** As recorded: cleared of secrets. */
  readonly text: string;
  readonly fingerprint: string;
  readonly base: Decision;
  readonly head: Decision;
  readonly kinds: readonly KindOfChange[];
  /** Kinds that it could be of as well, where labels are not certain. */
  readonly possible: readonly ChangeKind[];
}

export interface Drift {
  readonly session: string;
  readonly command: number;
  readonly revision: string;
  readonly recorded: string;
  readonly again: string;
}

export interface Observer {
  /** Each command that was judged, once. */
  judged(): void;
  changed(change: Change): void;
  drifted(drift: Drift): void;
  /** Judged under its own revision again, to the same result. */
  reproduced(): void;
  /** Labels then are not known: its revision's data is not at hand. */
  labelsAssumed(): void;
  /** A policy sees parameters, and the recording does not have them in full. */
  paramsCut(): void;
  /** Not judged: the recording lacks what policy saw. */
  unjudged(session: string, command: number, why: string): void;
}

/** As the gateway cuts and redacts what it records of a parameter; a value may also look so by itself. */
const isCut = (value: string | null) =>
  value !== null && (value.includes("<redacted>") || value.length >= limits.recordedParameterBytesMax);

const analysisPrefix = /^\{"type":"analysis","id":(\d+),"analysis":/;

type Verdicted = Pick<SessionOpened, "verdict" | "rules">;

/** A side's judge of this session, and its verdict on the session itself. */
interface Side {
  readonly revision: JudgingRevision;
  readonly judge: SessionJudge;
  readonly opening: Decision;
}

export class SessionReplay {
  readonly #revisions: Revisions;
  readonly #known: KnownAnalyses;
  readonly #observer: Observer;
  readonly #sinceMs: number;
  readonly #analyses = new Map<number, CommandAnalysis>();
  #opened: SessionOpened | undefined;
  #base: Side | undefined;
  #head: Side | undefined;
  #lastCommand = 0;

  /** @param sinceMs what was judged before is passed over */
  constructor(revisions: Revisions, known: KnownAnalyses, observer: Observer, sinceMs: number) {
    this.#revisions = revisions;
    this.#known = known;
    this.#observer = observer;
    this.#sinceMs = sinceMs;
  }

  take(line: string): void {
    if (line.startsWith('{"type":"intent"')) return this.#intent(JSON.parse(line) as Intent);
    const analysis = analysisPrefix.exec(line);
    if (analysis !== null) {
      const text = line.slice(analysis[0].length, -1);
      this.#analyses.set(Number(analysis[1]), this.#known.parse(text));
    } else if (line.startsWith('{"type":"session.')) {
      const event = JSON.parse(line) as RecordedEvent;
      if (event.type === "session.opened") this.#open(event);
      else if (event.type === "session.context") this.#setContext(event.context);
    }
  }

  #open(opened: SessionOpened): void {
    this.#opened = opened;
    this.#setContext(opened.context);
    const [base, head] = [this.#base?.opening, this.#head?.opening];
    if (base === undefined || head === undefined || opened.at < this.#sinceMs) return;
    for (const side of [this.#base, this.#head]) {
      if (side?.revision.digest !== opened.revision.digest) continue;
      const { verdict, rules } = side.opening;
      const same = verdict === opened.verdict && Bun.deepEquals(rules, opened.rules);
      if (!same) this.#drift(0, opened.revision.digest, opened, side.opening);
    }
    const kinds = changesBetween(base, head);
    if (kinds.length > 0) {
      this.#report({ command: 0, at: opened.at, text: "(opens the session)", fingerprint: "" }, base, head, kinds, []);
    }
  }

  #setContext(context: SessionContext): void {
    const opened = this.#opened;
    if (opened === undefined) return;
    const { identity, target, client, session, at } = opened;
    const base: SessionBase = { identity, target, session: { id: session, client, context } };
    const side = (revision: JudgingRevision, before: Side | undefined): Side => ({
      revision,
      judge: revision.forSession(base),
      opening: before?.opening ?? revision.judgeSession(base, at),
    });
    this.#base = side(this.#revisions.base, this.#base);
    this.#head = side(this.#revisions.head, this.#head);
  }

  #intent(intent: Intent): void {
    const [opened, baseSide, headSide] = [this.#opened, this.#base, this.#head];
    if (intent.judgedAt < this.#sinceMs) return;
    const analysis = intent.analysis === null ? undefined : this.#analyses.get(intent.analysis);
    if (opened === undefined || baseSide === undefined || headSide === undefined || analysis === undefined) {
      this.#observer.unjudged(opened?.session ?? "?", intent.command, "its analysis is not in the recording");
      return;
    }
    const { name } = opened.target;
    const then = this.#revisions.labelsOf(intent.revision, name);
    const rest: CommandRest = { digest: intent.digest, novel: intent.novel, params: intent.params };
    const judgeBy = ({ revision, judge, opening }: Side, seen: CommandAnalysis) =>
      opening.verdict === "allow" ? revision.judge(judge, seen, rest, intent.judgedAt) : opening;
    const whole =
      !(baseSide.revision.seesParams || headSide.revision.seesParams) ||
      !intent.params.some(isCut) ||
      digestOf(intent.text, intent.params) === intent.digest;
    const own = [baseSide, headSide].find(({ revision }) => revision.digest === intent.revision);
    const again = whole && own ? own.revision.judge(own.judge, analysis, rest, intent.judgedAt) : undefined;
    if (again !== undefined) this.#reproduce(intent, again);
    if (!whole) this.#observer.paramsCut();
    // An approved command has a second intent, which is the same command.
    if (intent.command <= this.#lastCommand) return;
    this.#lastCommand = intent.command;
    this.#observer.judged();
    if (then === undefined) this.#observer.labelsAssumed();
    const seenBase = baseSide.revision.relabel(analysis, name, then);
    const seenHead = headSide.revision.relabel(analysis, name, then);
    const judgeOnce = (side: Side, seen: CommandAnalysis) =>
      side === own && seen === analysis && side.opening.verdict === "allow" && again ? again : judgeBy(side, seen);
    const base = judgeOnce(baseSide, seenBase.likely);
    const head = judgeOnce(headSide, seenHead.likely);
    const kinds = changesBetween(base, head);
    const certain = seenBase.others.length === 0 && seenHead.others.length === 0;
    const possible = certain ? [] : this.#possible(kinds, baseSide, headSide, name, seenBase, seenHead, judgeBy);
    if (kinds.length > 0 || possible.length > 0) {
      const { command, text, judgedAt } = intent;
      this.#report({ command, at: judgedAt, text, fingerprint: analysis.fingerprint }, base, head, kinds, possible);
    }
  }

  /** Kinds of change under the other labels that the columns may have had. */
  #possible(
    kinds: readonly KindOfChange[],
    baseSide: Side,
    headSide: Side,
    target: string,
    seenBase: { readonly likely: CommandAnalysis; readonly others: readonly CommandAnalysis[] },
    seenHead: { readonly likely: CommandAnalysis; readonly others: readonly CommandAnalysis[] },
    judgeBy: (side: Side, seen: CommandAnalysis) => Decision,
  ): ChangeKind[] {
    const [bases, heads] = [
      [seenBase.likely, ...seenBase.others],
      [seenHead.likely, ...seenHead.others],
    ];
    // Under equal labels the same columns carry them for both, whichever these are.
    const paired = baseSide.revision.labelsOf(target).key === headSide.revision.labelsOf(target).key;
    const found = new Set<ChangeKind>();
    let unchanged = false;
    bases.forEach((one, index) => {
      const others = paired ? heads.slice(index, index + 1) : heads;
      for (const other of others) {
        const changes = changesBetween(judgeBy(baseSide, one), judgeBy(headSide, other));
        for (const { kind } of changes) found.add(kind);
        unchanged ||= changes.length === 0;
      }
    });
    for (const { kind } of kinds) if (!unchanged) found.delete(kind);
    return [...found].sort();
  }

  /** Under its own revision a command must be judged as it was. */
  #reproduce(intent: Intent, again: Decision): void {
    const { verdict, rules, masks, diagnostics, approval, obligations } = intent;
    const recorded: Decision = {
      verdict,
      rules: [...rules],
      masks: [...masks],
      diagnostics,
      ...(approval && { approval }),
      ...(obligations && { obligations }),
    };
    if (same(recorded, again)) this.#observer.reproduced();
    else this.#drift(intent.command, intent.revision, recorded, again);
  }

  #drift(command: number, revision: string, recorded: Verdicted, again: Verdicted): void {
    const text = ({ verdict, rules }: Verdicted) => `${verdict} ${rules.map(({ id }) => id).join(", ")}`;
    this.#observer.drifted({
      session: this.#opened?.session ?? "?",
      command,
      revision,
      recorded: text(recorded),
      again: text(again),
    });
  }

  #report(
    what: Pick<Change, "command" | "at" | "text" | "fingerprint">,
    base: Decision,
    head: Decision,
    kinds: readonly KindOfChange[],
    possible: readonly ChangeKind[],
  ): void {
    if (this.#opened === undefined) return;
    const { session, identity, target } = this.#opened;
    this.#observer.changed({
      ...what,
      session,
      who: identity.email || identity.subject,
      agent: identity.kind === "agent",
      target: target.name,
      base,
      head,
      kinds,
      possible,
    });
  }
}

const texts = new WeakMap<Decision, string>();

function same(recorded: Decision, again: Decision): boolean {
  let text = texts.get(again);
  if (text === undefined) {
    text = JSON.stringify(inOrder(again));
    texts.set(again, text);
  }
  return text === JSON.stringify(inOrder(recorded)) || Bun.deepEquals(inOrder(recorded), inOrder(again), true);
}

const inOrder = ({ verdict, rules, masks, diagnostics, approval, obligations }: Decision) => ({
  verdict,
  rules,
  masks,
  diagnostics,
  ...(approval && { approval }),
  ...(obligations && { obligations }),
});
