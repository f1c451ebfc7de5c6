/** What `act` throws; nothing of it where it does not. */
export function faultOf(act: () => unknown): { code?: string; message?: string } {
  try {
    act();
  } catch (error) {
    return error as Error;
  }
  return {};
}
