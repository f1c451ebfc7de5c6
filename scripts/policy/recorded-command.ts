/** One command of a recorded session, with the input that policy saw: read over the API with the caller's own token, or from a store. */
import type { Invocation } from "../../gateway/cli/command.ts";
import { withRecordings } from "../../gateway/cli/recordings.ts";
import type { CommandAnalysis, CommandInput, SessionContext } from "../../gateway/policy/input.ts";
import type { Intent, RecordedEvent, SessionOpened } from "../../gateway/recording/events.ts";
import { inputOf } from "./recorded-input.ts";

export interface Explained {
  readonly intent: Intent;
  readonly input: CommandInput;
}

/** @throws Error where the session has no such command; ClientError where it cannot be read. */
export async function recordedCommand(
  session: string,
  command: number,
  where: { readonly gateway?: string | undefined; readonly store?: string | undefined },
): Promise<Explained> {
  const invocation: Invocation = {
    values: { gateway: where.gateway, store: where.store },
    positionals: [],
    signal: new AbortController().signal,
    terminal: {
      out: (text) => void process.stdout.write(text),
      err: (text) => void process.stderr.write(text),
      isTTY: false,
      columns: 100,
      environment: process.env,
    },
  };
  let found: Explained | undefined;
  await withRecordings(invocation, async (recordings) => {
    found = await find(recordings.lines(session), command);
    return 0;
  });
  if (found === undefined) throw new Error(`session ${session} has no command ${command}`);
  return found;
}

/** @param lines of a session's recording, in order. */
async function find(lines: AsyncIterable<string>, command: number): Promise<Explained | undefined> {
  const analyses = new Map<number, CommandAnalysis>();
  let opened: SessionOpened | undefined;
  let context: SessionContext | undefined;
  for await (const line of lines) {
    const event = JSON.parse(line) as RecordedEvent;
    if (event.type === "session.opened") {
      opened = event;
      context = event.context;
    } else if (event.type === "session.context") {
      context = event.context;
    } else if (event.type === "analysis") {
      analyses.set(event.id, event.analysis);
    } else if (event.type === "intent" && event.command === command) {
      const analysis = event.analysis === null ? undefined : analyses.get(event.analysis);
      if (opened === undefined || context === undefined || analysis === undefined) return undefined;
      return { intent: event, input: inputOf(opened, context, event, analysis) };
    }
  }
  return undefined;
}
