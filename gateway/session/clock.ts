/** Time as policies see it. One document serves all decisions of a second. */
import type { NowInput } from "../policy/input.ts";

interface Zone {
  readonly format: Intl.DateTimeFormat;
  minute: number;
  local: Pick<NowInput, "weekday" | "hour" | "time">;
  second: number;
  now: NowInput;
}
const none = { weekday: "", hour: 0, time: "" };
const zones = new Map<string, Zone>();
const zonesMax = 100;

/** @throws RangeError where there is no such zone */
function zoneOf(timeZone: string): Zone {
  const known = zones.get(timeZone);
  if (known !== undefined) return known;
  const parts = { weekday: "long", hour: "2-digit", minute: "2-digit", hourCycle: "h23" } as const;
  const format = new Intl.DateTimeFormat("en-US", { ...parts, timeZone });
  const zone: Zone = { format, minute: Number.NaN, local: none, second: Number.NaN, now: { rfc3339: "", ...none } };
  if (zones.size >= zonesMax) zones.clear();
  zones.set(timeZone, zone);
  return zone;
}

function localTime(date: Date, format: Intl.DateTimeFormat): Zone["local"] {
  const parts = new Map(format.formatToParts(date).map(({ type, value }) => [type, value]));
  const [hour = "", minute = ""] = [parts.get("hour"), parts.get("minute")];
  return { weekday: parts.get("weekday") ?? "", hour: Number(hour), time: `${hour}:${minute}` };
}

/** @param timeZone an IANA name, as the policy's data gives it. @throws RangeError where there is no such zone */
export function policyNow(ms: number, timeZone = "UTC"): NowInput {
  const zone = zoneOf(timeZone);
  const second = Math.floor(ms / 1_000);
  if (zone.second === second) return zone.now;
  const date = new Date(second * 1_000);
  const minute = Math.floor(second / 60);
  if (zone.minute !== minute) {
    zone.local = localTime(date, zone.format);
    zone.minute = minute;
  }
  zone.now = Object.freeze({ rfc3339: date.toISOString().replace(".000Z", "Z"), ...zone.local });
  zone.second = second;
  return zone.now;
}
