/** What a fixture takes of a recorded session: who, where, and each command with what was decided about it. */
import type { CommandAnalysis } from "../../../gateway/policy/input.ts";
import type { Intent, RecordedEvent, SessionOpened } from "../../../gateway/recording/events.ts";
import { readRecordings } from "../recorded-lines.ts";

export interface RecordedStep {
  readonly intent: Intent;
  readonly analysis: CommandAnalysis | undefined;
  /** It was held, and people approved it. */
  readonly approved: boolean;
}

export interface RecordedSession {
  readonly opened: SessionOpened;
  readonly steps: readonly RecordedStep[];
}

/** @param store as the CLI's `--store` names it, or undefined for the API with the caller's token. */
export async function readRecordedSession(
  id: string,
  store: string | undefined,
  gateway: string | undefined,
): Promise<RecordedSession> {
  return readRecordings({ gateway, store }, (recordings) => collect(recordings.lines(id), id));
}

async function collect(lines: AsyncIterable<string>, id: string): Promise<RecordedSession> {
  let opened: SessionOpened | undefined;
  const analyses = new Map<number, CommandAnalysis>();
  const steps = new Map<number, RecordedStep>();
  let bound: Intent | undefined;
  for await (const line of lines) {
    const event = JSON.parse(line) as RecordedEvent;
    if (event.type === "session.opened") opened = event;
    else if (event.type === "analysis") analyses.set(event.id, event.analysis);
    else if (event.type === "intent") {
      const held = steps.get(event.command);
      if (held !== undefined) {
        // The intent comes again once it was approved.
        steps.set(event.command, { ...held, approved: event.forwarded });
        continue;
      }
      // What was bound is judged again where policy changed before it ran; a fixture has one policy.
      if (event.via === "execute" && bound?.text === event.text) continue;
      if (event.via === "bind") bound = event;
      const analysis = event.analysis === null ? undefined : analyses.get(event.analysis);
      steps.set(event.command, { intent: event, analysis, approved: false });
    }
  }
  if (opened === undefined) throw new Error(`the store has no session ${id}`);
  return { opened, steps: [...steps.values()] };
}
