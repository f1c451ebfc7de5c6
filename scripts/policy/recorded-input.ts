/** The document that policy saw, from what a recording has of it. */
import type { CommandAnalysis, CommandInput, NowInput, SessionContext } from "../../gateway/policy/input.ts";
import type { Intent, RecordedEvent, SessionOpened } from "../../gateway/recording/events.ts";
import { policyNow } from "../../gateway/session/clock.ts";

/** @param context as it was when the command was judged: the opening's, or the latest change's. */
export function inputOf(
  opened: SessionOpened,
  context: SessionContext,
  intent: Intent,
  analysis: CommandAnalysis,
  now: NowInput,
): CommandInput {
  const { digest, novel, params } = intent;
  return {
    identity: opened.identity,
    target: opened.target,
    session: { id: opened.session, client: opened.client, context },
    command: { ...analysis, digest, novel, params },
    now,
  };
}

/**
 * Each intent of a session with the input that it was judged by; without one where the recording does not have it all.
 *
 * @param events of the session, in order.
 */
export async function* recordedInputs(
  events: AsyncIterable<RecordedEvent>,
): AsyncGenerator<{ readonly intent: Intent; readonly input: CommandInput | undefined }> {
  const analyses = new Map<number, CommandAnalysis>();
  let opened: SessionOpened | undefined;
  let context: SessionContext | undefined;
  let timeZone: string | undefined;
  for await (const event of events) {
    if (event.type === "session.opened") {
      opened = event;
      context = event.context;
      ({ timeZone } = event.revision);
    } else if (event.type === "session.revision") {
      ({ timeZone } = event.revision);
    } else if (event.type === "session.context") {
      context = event.context;
    } else if (event.type === "analysis") {
      analyses.set(event.id, event.analysis);
    } else if (event.type === "intent") {
      const analysis = event.analysis === null ? undefined : analyses.get(event.analysis);
      const input =
        opened && context && analysis && inputOf(opened, context, event, analysis, policyNow(event.judgedAt, timeZone));
      yield { intent: event, input };
    }
  }
}
