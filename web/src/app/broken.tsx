import type { ErrorComponentProps } from '@tanstack/react-router';
import { Button } from '@/ui/button';
import { messageOf } from '@/ui/fault';
import { Notice } from '@/ui/notice';
import { Page } from '@/ui/page';

/** Stands in for a page that cannot be drawn, such as one whose parts are gone since certctl was updated. */
export function Broken({ error }: ErrorComponentProps) {
  return (
    <Page title="This page cannot be shown" width="column">
      <Notice
        tone="bad"
        alert
        title="The dashboard has met something that it cannot handle"
        actions={
          <Button small onClick={() => location.reload()}>
            Load it anew
          </Button>
        }
      >
        {messageOf(error)}
      </Notice>
    </Page>
  );
}
