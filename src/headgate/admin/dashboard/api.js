// Requests to the admin API besides the stream.

const KEY = "headgate.token";

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

/** The answer's JSON. Throws an Error with a text for people, `status` and `problems`. */
export async function ask(method, path, body) {
  const headers = token.get() ? { Authorization: `Bearer ${token.get()}` } : {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
    });
  } catch {
    throw new Error("The balancer cannot be reached. Nothing is known of what it has done.");
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const error = new Error(answer.reason ?? `It answered ${response.status}.`);
  error.status = response.status;
  error.problems = answer.problems ?? [];
  throw error;
}

export const backendPath = (backend) =>
  `/pools/${encodeURIComponent(backend.pool)}/backends/${encodeURIComponent(backend.name)}`;
