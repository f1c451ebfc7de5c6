/** Time as policies see it. One document serves all decisions of a second. */
import type { NowInput } from "../policy/input.ts";

const weekdays = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"] as const;
let cached: { second: number; now: NowInput } | undefined;

export function policyNow(ms: number): NowInput {
  const second = Math.floor(ms / 1_000);
  if (cached?.second === second) return cached.now;
  const date = new Date(second * 1_000);
  const now: NowInput = Object.freeze({
    rfc3339: date.toISOString().replace(".000Z", "Z"),
    weekday: weekdays[date.getUTCDay()] ?? "",
    hour: date.getUTCHours(),
  });
  cached = { second, now };
  return now;
}
