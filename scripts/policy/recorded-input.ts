/** The document that policy saw, from what a recording has of it. */
import type { CommandAnalysis, CommandInput, SessionContext } from "../../gateway/policy/input.ts";
import type { Intent, SessionOpened } from "../../gateway/recording/events.ts";
import { policyNow } from "../../gateway/session/clock.ts";

/** @param context as it was when the command was judged: the opening's, or the latest change's. */
export function inputOf(
  opened: SessionOpened,
  context: SessionContext,
  intent: Intent,
  analysis: CommandAnalysis,
  now = policyNow(intent.judgedAt),
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
