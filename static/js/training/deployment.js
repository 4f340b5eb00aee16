// The page of one deployment: another status has other buttons, and texts to show.

document.addEventListener("progress", (event) => {
  const root = document.getElementById("deployment");
  if (event.target === root && event.detail.status !== root.dataset.status) location.reload();
});
