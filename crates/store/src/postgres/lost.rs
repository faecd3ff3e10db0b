//! Messages whose answer was lost, known again by their own key.

use deadpool_postgres::{GenericClient, Transaction};
use uuid::Uuid;
use uzel_model::{Id, Timestamp, connector::StatusNews};

use super::{journal::text, lanes::Fault, uuid, work::Gathered};
use crate::{
    CommandState,
    lost::{TAKEN, command},
    numbers::{command_number, command_tally},
};

/// Ends the command whose key the status brings as done if its outcome is unknown. While it is being sent, its answer counts.
pub(super) async fn recognise(
    work: &Transaction<'_>,
    connection: Id,
    news: &StatusNews,
    now: Timestamp,
    gathered: &mut Gathered,
) -> Result<(), Fault> {
    let Some(command) = command(news).map(uuid) else { return Ok(()) };
    let (connection, provider_id) = (uuid(connection), text(&news.provider_id));
    // First this: whoever ends the call at this moment is waited for, and what it has become is seen by the next statement.
    let tell = work
        .prepare_cached(
            "UPDATE sending SET told = $2 WHERE command = $1
             AND EXISTS (SELECT 1 FROM command c WHERE c.id = $1 AND c.connection = $3)",
        )
        .await?;
    work.execute(&tell, &[&command, &provider_id, &connection]).await?;
    end(work, connection, command, &news.provider_id, now, gathered).await
}

/// Ends a command of unknown outcome as done, under the provider's id.
pub(super) async fn end(
    work: &Transaction<'_>,
    connection: Uuid,
    command: Uuid,
    provider_id: &str,
    now: Timestamp,
    gathered: &mut Gathered,
) -> Result<(), Fault> {
    let (unknown, done, provider_id) = (CommandState::Unknown, CommandState::Done, text(provider_id));
    let end = work
        .prepare_cached(
            "UPDATE command SET state = $2, reason = $3, provider_id = $4 WHERE id = $1 AND connection = $5 AND state = $6",
        )
        .await?;
    let (was, is) = (i16::from(command_number(unknown)), i16::from(command_number(done)));
    if work.execute(&end, &[&command, &is, &TAKEN, &provider_id, &connection, &was]).await? == 0 {
        return Ok(());
    }
    work.execute("DELETE FROM trouble WHERE command = $1", &[&command]).await?;
    gathered.shift(command_tally(unknown), command_tally(done));
    let put = work
        .prepare_cached(
            "INSERT INTO sent (connection, provider_id, command, at, state) VALUES ($1, $2, $3, $4, 0) ON CONFLICT DO NOTHING",
        )
        .await?;
    work.execute(&put, &[&connection, &provider_id, &command, &now]).await?;
    Ok(())
}
